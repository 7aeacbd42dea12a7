"""Windows as inputs of an analysis: joined into one batch, their tokens named.

Letters: b windows, t timesteps of a window, n tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dtx.dt.context import Context
from dtx.dt.model import ModelConfig
from dtx.dt.tokens import KINDS, PADDING  # noqa: F401  (used by analyses)
from dtx.dt.tokens import NamedTokens as Tokens


def tokens_of(context: Context, cfg: ModelConfig) -> Tokens:
    """Name the tokens of windows of equal padding."""
    padded = context["action"][0] == cfg.n_actions
    # The last action of a window is no token; it reads as padding although its step is real.
    missing = int(padded[:-1].long().cumprod(0).sum()) if cfg.left_padding else 0
    return cfg.layout.padded(len(padded), missing)


def join(contexts: Sequence[Context]) -> Context:
    """One batch of several of equally long windows; their tables of observations become one."""
    moved, tables = [], []
    offset = 0
    for context in contexts:
        row: Tensor = context["observation"]  # type: ignore[assignment]
        table: Tensor = context["table"]  # type: ignore[assignment]
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
