"""Windows that analyses read: drawn from demonstrations or played to the decision, joined, cut, described.

Shape suffixes: b window, t timestep, n token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.dataset.episodes import Episodes, Split
from dtx.dt.context import Context
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.model_config import ModelConfig
from dtx.dt.rollout import decision_contexts
from dtx.dt.spec import Balance, Padding, Windows
from dtx.dt.tokens import NamedTokens
from dtx.dt.windows import Drawn, Sampler
from dtx.env.decision import Decision
from dtx.errors import UserError


def sampling(
    cfg: ModelConfig, *, first_share: float = 0.5, balance: Balance = Balance.none
) -> Windows:
    """How windows are drawn for a model, whatever it was trained on: as long and padded as it reads them.

    Args:
        first_share: Share of windows that start with their episode, where padding is on the right.
        balance: Shares of outcomes.
    """
    return Windows(
        context=cfg.n_steps,
        padding=Padding.left if cfg.left_padding else Padding.right,
        first_share=first_share,
        whole_share=1.0,
        cut=None,
        end_share=0.0,
        balance=balance,
    )


def sampler(
    episodes: Episodes, cfg: ModelConfig, windows: Windows | None = None, split: int = Split.TRAIN
) -> Sampler:
    """Draws windows of episodes for a model; by default of the training episodes as recorded.

    Raises:
        UserError: The split has no episode, or an episode outlasts the model's timesteps.
    """
    return Sampler(episodes, cfg, windows or sampling(cfg), split)


def demonstrated(
    episodes: Episodes, cfg: ModelConfig, count: int, seed: int
) -> tuple[Context, pd.DataFrame]:
    """At most ``count`` windows of the training episodes that all end at a real step.

    Returns:
        The windows, and one row a window: window, layout (""), target: reward-to-go at its start.
    """
    draws = sampler(episodes, cfg)
    drawn = draws.draw(np.random.default_rng(seed), 8 * count)
    if cfg.left_padding:
        length, kept = cfg.n_steps, np.arange(len(drawn.length))
    else:  # padding on the right has no last state: take the commonest length
        length = int(np.bincount(drawn.length).argmax())
        kept = np.flatnonzero(drawn.length == length)
    kept = kept[:count]
    drawn = Drawn(drawn.row[kept], drawn.begin[kept], drawn.length[kept])
    context = cut(draws.context(drawn)[0], length)
    first = context["reward_to_go"][:, 0].tolist()
    return context, pd.DataFrame({"window": range(len(kept)), "layout": "", "target": first})


def at_decision(
    model: DecisionTransformerModel, decision: Decision, targets: Sequence[float]
) -> tuple[Context, pd.DataFrame]:
    """Windows that end at the decision: every layout at every target, the routine followed up to there.

    Returns:
        The windows, and one row a window: window, layout, target.
    """
    parts = decision_contexts(model, decision, targets)
    values = {k: torch.cat([part[k] for part in parts]) for k in parts[0] if k != "table"}
    context = Context.of(layout=parts[0].layout, table=parts[0]["table"], **values)
    rows = [(layout, target) for target in targets for layout in decision.layouts]
    frame = pd.DataFrame(rows, columns=["layout", "target"])
    frame.insert(0, "window", range(len(frame)))
    return context, frame


def targets_of(frame: pd.DataFrame) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (target, its windows): one by one at a decision; elsewhere all together, the target missing."""
    if not (frame.layout != "").any():
        yield np.nan, np.arange(len(frame))
        return
    for target in frame.target.unique():
        yield float(target), np.flatnonzero(frame.target == target)


def clusters_of(frame: pd.DataFrame) -> dict[str, Any]:
    """What counts as one observation among windows, for :func:`dtx.statistics.mean_columns`.

    A layout, however many windows there are of it; where there are none, a window.
    """
    of = "layouts" if (frame.layout != "").any() else "windows"
    return {"clusters": frame[of.removesuffix("s")].to_numpy(), "of": of}


def beginnings(
    episodes: Episodes, cfg: ModelConfig, steps: int, count: int, seed: int
) -> tuple[Context, np.ndarray]:
    """The first ``steps`` timesteps of random training episodes that last as long.

    Returns:
        The windows, and the episodes' numbers.

    Raises:
        UserError: There is no such episode.
    """
    long = np.flatnonzero((np.asarray(episodes.split) == Split.TRAIN) & (episodes.length >= steps))
    if not len(long):
        raise UserError(
            f"dataset: no training episode lasts {steps} steps, so there is nothing to take means of"
        )
    chosen = np.random.default_rng(seed).permutation(long)[:count]
    start = np.asarray(episodes.start)[chosen]
    drawn = Drawn(start, np.zeros_like(start), np.full_like(start, steps))
    context = sampler(episodes, cfg).context(drawn)[0]
    return context if cfg.left_padding else cut(context, steps), chosen


def join(contexts: Sequence[Context]) -> Context:
    """One batch of several of equally long windows; their tables of observations become one."""
    moved, tables = [], []
    offset = 0
    for context in contexts:
        row, table = context["observation"], context["table"]
        moved.append(torch.where(row == table.shape[0] - 1, -1, row + offset))  # -1: padding
        tables.append(table[:-1])
        offset += table.shape[0] - 1
    table, index = torch.cat(tables).unique(dim=0, return_inverse=True)
    row = torch.cat(moved)
    return Context.of(
        layout=contexts[0].layout,
        observation=torch.where(row < 0, len(table), index[row.clamp(min=0)]),
        table=torch.cat([table, torch.zeros_like(table[:1])]),
        **{k: torch.cat([c[k] for c in contexts]) for k in ("action", "reward_to_go", "timestep")},
    )


def cut(context: Context, steps: int) -> Context:
    """The first timesteps of windows."""
    shorter = context.clone()
    for name in context:
        if name != "table":
            shorter[name] = context[name][:, :steps].contiguous()
    return shorter


def tokens_of(context: Context, cfg: ModelConfig) -> NamedTokens:
    """Name the tokens of windows of equal padding."""
    steps = context["timestep"].shape[1]
    return cfg.layout.padded(steps, int(missing_steps(context, cfg)[0]))


def missing_steps(context: Context, cfg: ModelConfig) -> Tensor:
    """(b,) timesteps of padding on the left of each window."""
    if not cfg.left_padding:
        return torch.zeros(len(context), dtype=torch.long)
    # The last action of a window is no token; it reads as padding although its step is real.
    padded_bt = context["action"][:, :-1] == cfg.n_actions
    return padded_bt.long().cumprod(1).sum(1)


def real_tokens(context: Context, cfg: ModelConfig) -> Tensor:
    """(b, n) bool: not padding."""
    step_n = torch.from_numpy(cfg.layout.step_of(context.shape[1]))
    return step_n >= missing_steps(context, cfg)[:, None]


def positions(context: Context) -> list[str]:
    """Names of the tokens: R1 S1 A1 R2 ... and the last state."""
    return context.layout.names(context.shape[1])


def distinct_inputs(context: Context) -> int:
    """How many of the windows differ in what the model reads: the number of samples there really are."""
    one_hot = context["one_hot"] if "one_hot" in context else context["table"]
    rows = one_hot.flatten(0, -2).numpy()
    _, index = np.unique(rows, axis=0, return_inverse=True)
    observation: np.ndarray = index.reshape(-1)
    shape = context["timestep"].shape
    seen = (
        observation.reshape(shape)
        if "one_hot" in context
        else observation[context["observation"].numpy()]
    )
    columns = [seen, context["action"][:, : shape[1] - 1].numpy(), context["timestep"].numpy()]
    if context.layout.has_reward_to_go:
        columns.append(context["reward_to_go"].numpy())
    windows = np.concatenate([c.astype(np.float64) for c in columns], axis=1)
    return len(np.unique(windows, axis=0))
