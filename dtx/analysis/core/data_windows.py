"""Windows cut from the demonstrations at chosen places, and which of their tokens are real.

Shape suffixes: b window, n token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dtx.analysis.core.inputs import cut
from dtx.dt.context import Context
from dtx.dt.model import ModelConfig
from dtx.dt.spec import Balance, Padding, Windows
from dtx.dt.windows import Drawn, Sampler
from dtx.errors import UserError

if TYPE_CHECKING:
    from dtx.dataset.episodes import Episodes


def sampler(episodes: Episodes, cfg: ModelConfig) -> Sampler:
    """Of the training episodes as recorded, whatever the model was trained on."""
    windows = Windows(
        context=cfg.n_steps,
        padding=Padding.left if cfg.left_padding else Padding.right,
        first_share=0.5,
        end_share=0.0,
        balance=Balance.none,
    )
    return Sampler(episodes, cfg, windows, split=0)


def beginnings(
    episodes: Episodes, cfg: ModelConfig, steps: int, count: int, seed: int
) -> tuple[Context, np.ndarray]:
    """The first ``steps`` timesteps of random training episodes that last as long.

    Returns:
        The windows, and the episodes' numbers.

    Raises:
        UserError: There is no such episode.
    """
    long = np.flatnonzero((np.asarray(episodes.split) == 0) & (episodes.length >= steps))
    if not len(long):
        raise UserError(
            f"dataset: no training episode lasts {steps} steps, so there is nothing to take means of"
        )
    chosen = np.random.default_rng(seed).permutation(long)[:count]
    start = np.asarray(episodes.start)[chosen]
    drawn = Drawn(start, np.zeros_like(start), np.full_like(start, steps))
    context = sampler(episodes, cfg).context(drawn)[0]
    return context if cfg.left_padding else cut(context, steps), chosen


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
