"""Windows as inputs of an analysis: joined into one batch, their tokens named.

Letters: b windows, t timesteps of a window, n tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dtx.dt.context import Context
from dtx.dt.model import ModelConfig

KINDS = ("R", "S", "A")
"""Reward-to-go, state, action."""
PADDING = "pad"


@dataclass(frozen=True)
class Tokens:
    """The tokens of windows that all have the same padding.

    Attributes:
        names: (n,) ``R1 S1 A1 ...``, numbered from the first step that is not padding; or ``pad``.
        kinds: (n,) R, S, A or pad.
    """

    names: tuple[str, ...]
    kinds: np.ndarray

    @property
    def real(self) -> np.ndarray:
        """(n,) bool, not padding."""
        return self.kinds != PADDING

    def of(self, *kinds: str) -> np.ndarray:
        """(n,) bool: tokens of these kinds."""
        return np.isin(self.kinds, kinds)

    def index(self, name: str) -> int:
        """The place of a token by name."""
        return self.names.index(name)


def tokens_of(context: Context, cfg: ModelConfig) -> Tokens:
    """Name the tokens of windows of equal padding."""
    letters = KINDS[3 - cfg.tokens_per_step :]
    padded = context["action"][0] == cfg.n_actions
    steps = len(padded)
    # The last action of a window is no token; it reads as padding although its step is real.
    missing = int(padded[:-1].long().cumprod(0).sum()) if cfg.left_padding else 0
    names, kinds = [], []
    for step in range(steps):
        names += [PADDING if step < missing else f"{k}{step - missing + 1}" for k in letters]
        kinds += [PADDING if step < missing else k for k in letters]
    return Tokens(tuple(names[:-1]), np.array(kinds[:-1]))


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
        reward_to_go_as_token=contexts[0].tokens_per_step == 3,
        observation=torch.where(row < 0, len(table), index[row.clamp(min=0)]),
        table=torch.cat([table, torch.zeros_like(table[:1])]),
        **{k: torch.cat([c[k] for c in contexts]) for k in ("action", "reward_to_go", "timestep")},
    )
