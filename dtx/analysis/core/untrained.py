"""Untrained twins of a model: what any network of its shape brings, by the same statistic.

With k twins, a model that is itself untrained exceeds all of them with probability 1 / (k + 1).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

from dtx.config.ranges import AT_MOST, Range

if TYPE_CHECKING:
    from torch import Tensor

    from dtx.dt.context import Context
    from dtx.dt.model import DecisionTransformerModel

TWINS = 5
"""Untrained models among which one more is placed (2026-11-29): it lies above the 95% interval of
:func:`~dtx.statistics.next_estimate` in one of forty cases, and its half width is three of their standard
deviations (of 3 it would be five, of 10 two and a half)."""

Twins = Annotated[
    int,
    Range("needs at least 19: that one more untrained model exceeds 19 has a chance of 5%", low=19),
    AT_MOST,
]
"""How many untrained models a number is held against."""
_STREAM = 1_000_003
"""Added to the seed, so that no twin is the model itself, should that be untrained."""
_APART = 1_009
"""Between the twins of one seed and those of the next, so that they are others."""


def twins(
    model: DecisionTransformerModel, count: int, seed: int, seen: Tensor
) -> Iterator[DecisionTransformerModel]:
    """The same architecture with fresh weights, ``count`` times.

    A model whose training starts with states embedded around their mean has twins that do: without it the sum
    of what all observations share drowns in which they differ, and any model would be beyond its twins.

    Args:
        model: Any.
        count: How many.
        seed: Of the first one's weights.
        seen: (u, c) distinct flattened one-hots of the observations that are looked at.
    """
    from dtx.dt.load import untrained_like  # torch is slow to import, and planning does not need it
    from dtx.dt.model import centre_state

    for number in range(count):
        twin = untrained_like(model, (_STREAM + seed * _APART + number) % 2**63)
        if model.cfg.state_bias and model.cfg.state_encoder != "conv":
            centre_state(twin, seen.mean(0))
        yield twin


def seen_in(contexts: Iterable[Context]) -> Tensor:
    """The distinct flattened one-hots (u, c) of the observations in contexts."""
    import torch

    return torch.cat([context["table"][:-1] for context in contexts]).unique(dim=0)
