"""Run the stage: find the rows, store their activations, and describe them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dtx.activations.caching import Reader, cache, widths_of
from dtx.activations.prefixes import Contents, Rows, drawn_share, rows_of, windows_of
from dtx.activations.spec import NO_REWARD_TO_GO, ActivationsSpec
from dtx.activations.stored import Part, write_about, write_tokens
from dtx.dataset.episodes import Episodes
from dtx.dt.load import load_at
from dtx.dt.model_config import ModelConfig
from dtx.dt.tokens import KINDS, REWARD_TO_GO
from dtx.errors import UserError
from dtx.report import Report
from dtx.training.threads import one_thread

_EPISODES, _PREFIXES, _VIEWS = range(3)
"""What is drawn as held out."""


def make(spec: ActivationsSpec, out: Path) -> None:
    """Write the artefact; an interrupted run goes on at its last finished shard."""
    model = load_at(spec.dt, spec.checkpoint)
    episodes, cfg = spec.dataset.load(), model.cfg
    kinds = _kinds(spec, cfg)
    reader = Reader(episodes, cfg)
    windows = windows_of(episodes, cfg, spec.episodes, spec.other_windows, spec.seed)
    widths = widths_of(model, spec.hooks, reader.context(windows[np.zeros(1, np.int64)]))
    held_out = drawn_share(len(episodes.start), spec.held_out, spec.seed, _EPISODES)
    contents = Contents(episodes, cfg)
    rows = rows_of(contents, windows, held_out, kinds, spec.seed)
    del contents, windows
    with one_thread():  # sums of several threads may differ in their last bits
        cache(model, reader, rows, widths, spec.numbers, out)
    columns = _columns(rows, episodes, cfg, spec)
    write_tokens(out, columns)
    write_about(
        out,
        len(rows),
        widths,
        spec.numbers,
        kinds="".join(kinds),
        layout=cfg.layout.kinds,
        model=spec.dt.label,
        dataset=spec.dataset.label,
        checkpoint=spec.checkpoint,
        views=len(episodes.observations),
        episodes=len(episodes.start),
    )
    _describe(Report(out), rows, columns)


def _kinds(spec: ActivationsSpec, cfg: ModelConfig) -> tuple[str, ...]:
    """The kinds of tokens that are stored, in their order."""
    chosen = {kind.value for kind in spec.tokens} if spec.tokens else set(cfg.layout.kinds)
    if chosen - set(cfg.layout.kinds):
        raise UserError(f"activations.tokens: {NO_REWARD_TO_GO}")
    return tuple(kind for kind in cfg.layout.kinds if kind in chosen)


def _columns(
    rows: Rows, episodes: Episodes, cfg: ModelConfig, spec: ActivationsSpec
) -> dict[str, np.ndarray]:
    """The columns of ``tokens.arrow``."""
    windows, layout = rows.windows, cfg.layout
    within = rows.place // layout.per_step
    codes = np.array([KINDS.index(kind) for kind in layout.kinds], np.int8)
    kind = codes[rows.place % layout.per_step]
    view = np.asarray(episodes.observation)[windows.row[rows.window] + within]
    view[kind == KINDS.index(REWARD_TO_GO)] = -1
    start = windows.begin.astype(np.int32)[rows.window]
    by_prefix = drawn_share(int(rows.prefix.max()) + 1, spec.held_out, spec.seed, _PREFIXES)
    by_view = drawn_share(len(episodes.observations), spec.held_out, spec.seed, _VIEWS)
    train, held_out, neither = (np.int8(part) for part in Part)
    return {
        "episode": windows.episode.astype(np.int32)[rows.window],
        "step": start + within,
        "kind": kind,
        "start": start,
        "padding": windows.padding.astype(np.int16)[rows.window],
        "view": view,
        "prefix": rows.prefix,
        "count": rows.count,
        "count_held_out": rows.held_out,
        "by_episode": np.where(
            rows.held_out == 0,
            train,
            np.where(rows.held_out == rows.count, held_out, neither),
        ),
        "by_prefix": np.where(by_prefix[rows.prefix], held_out, train),
        "by_view": np.where(view < 0, neither, np.where(by_view[view], held_out, train)),
    }


def _describe(report: Report, rows: Rows, columns: dict[str, np.ndarray]) -> None:
    """The table ``counts`` and the headline."""
    lines = []
    for code, name in enumerate(KINDS):
        of = columns["kind"] == code
        if of.any():
            views = columns["view"][of]
            lines.append(
                {
                    "kind": name,
                    "tokens": int(columns["count"][of].sum()),
                    "rows": int(of.sum()),
                    "views": len(np.unique(views[views >= 0])),
                    "train_by_episode": int((columns["by_episode"][of] == Part.TRAIN).sum()),
                    "held_out_by_episode": int((columns["by_episode"][of] == Part.HELD_OUT).sum()),
                    "held_out_by_prefix": int((columns["by_prefix"][of] == Part.HELD_OUT).sum()),
                    "held_out_by_view": int((columns["by_view"][of] == Part.HELD_OUT).sum()),
                }
            )
    report.table("counts", pd.DataFrame(lines))
    views = columns["view"]
    report.headline(
        {
            "activations/rows": len(rows),
            "activations/tokens": rows.tokens,
            "activations/distinct_share": len(rows) / rows.tokens,
            "activations/windows": rows.all_windows,
            "activations/windows_passed": len(rows.windows),
            "activations/episodes": len(np.unique(columns["episode"])),
            "activations/views": len(np.unique(views[views >= 0])),
        }
    )
