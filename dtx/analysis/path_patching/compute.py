"""The tables of path patching: means over pairs, the strongest edges, the exact checks.

Letters: p pairs, n tokens; a cell is an edge at a token, or at all tokens together (position -1).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from dtx.analysis.core.patching import PairRuns
from dtx.analysis.path_patching import Tokens
from dtx.analysis.path_patching.identities import identities
from dtx.analysis.path_patching.sweep import Sweep, wanted
from dtx.dt.paths import Edge, edges, matters
from dtx.pairs.pair_set import PairSet
from dtx.progress import progress
from dtx.report import Report
from dtx.statistics import bootstrap_columns
from dtx.training.threads import one_thread

if TYPE_CHECKING:
    from dtx.analysis.path_patching import PathPatching
    from dtx.dt.model import DecisionTransformerModel

TOGETHER = "all"
"""Name of the token of cells in which an edge is patched at all tokens."""
LISTED = 60
"""Edges an edit in the table ``important``."""


@dataclass
class Found:
    """What the sweep gave.

    Attributes:
        tables: ``edges`` (means over pairs with intervals), ``important`` (the strongest of each edit, all
            targets together), ``identities``, ``runs`` (one row a pair).
        edits: In their order. tokens: Names of the tokens of the longest windows.
        identity_error: Largest deviation of an exact check, as rho.
        null_change: Largest change of LD by an edge within a null pair.
        random_95: For each edit and kind of receiver the |rho| that 95% of its cells stay under.
    """

    tables: dict[str, pd.DataFrame]
    edits: list[str]
    tokens: list[str]
    identity_error: float
    null_change: float
    random_95: dict[tuple[str, str], float]


@dataclass
class _Cells:
    """rho (cells, p) of all pairs; the pairs and the cells beside it."""

    rho: np.ndarray
    pairs: pd.DataFrame
    about: pd.DataFrame


@torch.inference_mode()
def measure(
    stage: PathPatching, model: DecisionTransformerModel, pairs: PairSet, report: Report
) -> Found:
    """Patch every edge that the stage asks for; speeds go to the report's ``timing``."""
    named = list(pairs.about["edits"])
    edits = [name for name in named if stage.edits is None or name in stage.edits]
    batches = [
        batch.where(np.array(batch.table["edit"].isin(edits)) | batch.kind("null"))
        for batch in pairs.batches(model)
    ]
    every = edges(model.cfg)
    longest = max(batch.changed.shape[1] for batch in batches)
    tokens = max((batch.names for batch in batches), key=len)
    rho = np.full((len(every), longest + 1, sum(map(len, batches))), np.nan)
    checks, runs_tables, null, seconds, computed, patches, done = [], [], 0.0, 0.0, 0, 0, 0
    with (
        one_thread(),
        progress("path patching", len(every) * len(batches), "edges") as bar,
    ):
        for batch in batches:
            runs = PairRuns(
                model, batch, stage.direction, pairs.min_ld_gap, wanted(model.cfg.n_layers)
            )
            begin = time.perf_counter()
            each = stage.tokens is Tokens.each
            sweep = Sweep(model, runs, stage.windows, each, bar.advance)
            seconds += time.perf_counter() - begin
            computed += sweep.computed
            p, n = batch.changed.shape
            with np.errstate(divide="ignore", invalid="ignore"):
                mine = np.where(runs.measurable, sweep.change / runs.span, np.nan)
            places = _places(every, model, n, each)
            patches += int(places.sum()) * p
            mine[~places] = np.nan
            rho[:, :n, done : done + p], rho[:, -1, done : done + p] = mine[:, :-1], mine[:, -1]
            done += p
            if batch.kind("null").any():
                null = max(null, float(np.abs(sweep.change[..., batch.kind("null")]).max()))
            checks.append(identities(stage, model, runs, sweep))
            runs_tables.append(runs.table())
    report.timing(
        0,
        {
            "paths/sweep_seconds": seconds,
            "paths/patches": patches,
            "paths/forwards": computed,
            "paths/patches_per_second": patches / max(seconds, 1e-9),
        },
    )
    table = pd.concat(runs_tables, ignore_index=True)
    cells = _cells(every, rho, table, tokens)
    checked = pd.concat(checks, ignore_index=True)
    tables = {
        "edges": _effects(cells, stage),
        "important": _important(cells, edits, stage),
        "identities": checked,
        "runs": table,
    }
    error = float(checked["error"].max()) if len(checked) else np.nan
    return Found(tables, edits, tokens, error, null, _random_95(cells, edits))


def _places(every: list[Edge], model: DecisionTransformerModel, n: int, each: bool) -> np.ndarray:
    """(edges, n + 1) bool: cells that can change the last logits, and that were asked for."""
    places = np.ones((len(every), n + 1), bool)
    for i, edge in enumerate(every):
        places[i, :n] = [each and matters(model.cfg, edge, m, n) for m in range(n)]
    return places


def _cells(every: list[Edge], rho: np.ndarray, pairs: pd.DataFrame, tokens: list[str]) -> _Cells:
    """Cells in a line, without those that no pair has."""
    edge, place = np.nonzero(np.isfinite(rho).any(-1))
    names = np.array([*tokens, TOGETHER])
    columns = {
        "sender": [e.sender.name for e in every],
        "receiver": [e.receiver.name for e in every],
        "input": [e.receiver.input for e in every],
    }
    about = pd.DataFrame({k: pd.Categorical(np.array(v)[edge]) for k, v in columns.items()})
    about["position"] = np.where(place == len(tokens), -1, place)
    about["token"] = pd.Categorical(names[place])
    return _Cells(rho[edge, place], pairs, about)


def _means(cells: _Cells, chosen: np.ndarray, stage: PathPatching) -> pd.DataFrame:
    """Cells with mean rho over the chosen pairs (p,) and its interval."""
    mine = cells.rho[:, chosen]
    mine = mine[:, np.isfinite(mine).any(0)]
    table = cells.about.copy()
    whole = np.isfinite(mine).all(1)
    low, high = np.full((2, len(mine)), np.nan)
    low[whole], high[whole] = bootstrap_columns(mine[whole].T, stage.resamples, stage.seed)
    for row in np.flatnonzero(~whole):  # windows of several lengths: a cell is not in all pairs
        there = mine[row][np.isfinite(mine[row])]
        ends = bootstrap_columns(there[:, None], stage.resamples, stage.seed)
        low[row], high[row] = (float(end[0]) for end in ends)
    count = np.isfinite(mine).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        table["rho"] = np.nansum(mine, 1) / count
    table["low"], table["high"], table["pairs"] = low, high, count
    table["missing"] = int(chosen.sum()) - mine.shape[1]
    return table


def _effects(cells: _Cells, stage: PathPatching) -> pd.DataFrame:
    """Mean rho of every cell by edit, kind and reward-to-go."""
    tables = []
    of = ["edit", "kind", "reward_to_go"]
    for key in cells.pairs[of].drop_duplicates().itertuples(index=False):
        if key.kind == "null":
            continue
        chosen = (cells.pairs[of] == list(key)).all(axis=1).to_numpy()
        table = _means(cells, chosen, stage)
        for place, name in enumerate(of):
            table.insert(place, name, key[place])
        tables.append(table)
    if not tables:
        return cells.about.assign(edit="", kind="", reward_to_go=0.0, rho=np.nan).iloc[:0]
    joined = pd.concat(tables, ignore_index=True)
    return joined.astype({"edit": "category", "kind": "category"})


def _important(cells: _Cells, edits: list[str], stage: PathPatching) -> pd.DataFrame:
    """The strongest cells of each edit over all its pairs, each with its controls.

    ``control``: mean rho of the same cell with donors from other worlds. ``above``: share of the cells with
    the same kind of receiver whose |rho| is smaller: what a random edge would bring.
    """
    tables = []
    single = (cells.about["position"] >= 0).to_numpy()
    counted = single if single.any() else ~single
    for edit in edits:
        of_edit = (cells.pairs["edit"] == edit).to_numpy()
        mine, control = (
            _means(cells, of_edit & (cells.pairs["kind"] == kind).to_numpy(), stage)
            for kind in ("edit", "shuffled_donor")
        )
        mine["control"] = control["rho"]
        mine = mine[counted & mine["rho"].notna()].copy()
        size = mine["rho"].abs()
        mine["above"] = size.groupby(mine["input"], observed=True).rank(method="min", pct=True)
        mine = mine.loc[size.sort_values(ascending=False, kind="stable").index[:LISTED]]
        mine.insert(0, "edit", edit)
        tables.append(mine)
    return pd.concat(tables, ignore_index=True)


def _random_95(cells: _Cells, edits: list[str]) -> dict[tuple[str, str], float]:
    single = (cells.about["position"] >= 0).to_numpy()
    counted = single if single.any() else ~single
    found = {}
    for edit in edits:
        chosen = ((cells.pairs["edit"] == edit) & (cells.pairs["kind"] == "edit")).to_numpy()
        mine = cells.rho[:, chosen]
        for kind in sorted(set(cells.about["input"])):
            of_kind = mine[counted & (cells.about["input"] == kind).to_numpy()]
            size = np.abs(of_kind[np.isfinite(of_kind)])
            found[edit, kind] = float(np.quantile(size, 0.95)) if len(size) else np.nan
    return found


def headline(stage: PathPatching, found: Found) -> dict[str, float | None]:
    """Numbers at the top: exact checks, and for each edit the strongest edge beside its controls."""
    numbers: dict[str, float | None] = {
        "paths/identity_error": found.identity_error,
        "paths/null_change": found.null_change,
    }
    runs, table = found.tables["runs"], found.tables["important"]
    edited = runs[runs["kind"] == "edit"]
    numbers["paths/distinct_inputs"] = len(
        edited.drop_duplicates(["ld_clean", "ld_corrupt", "edit"])
    )
    numbers["paths/n_missing"] = float((~edited["measurable"]).sum())
    for edit in found.edits:
        mine = table[table["edit"] == edit]
        if not len(mine):
            numbers[f"paths/{edit}_best_rho"] = None
            continue
        best = mine.iloc[0]
        numbers[f"paths/{edit}_best_rho"] = float(abs(best["rho"]))
        control = float(abs(best["control"]))
        numbers[f"paths/{edit}_control_rho"] = control if np.isfinite(control) else None
        numbers[f"paths/{edit}_random_95"] = found.random_95[edit, str(best["input"])]
    return numbers
