"""Untrained twins of a model: what any network of its shape brings, by the same statistic.

With k twins, a model that is itself untrained exceeds all of them with probability 1 / (k + 1).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import numpy as np

from dtx.config.ranges import Range
from dtx.statistics import Estimate

if TYPE_CHECKING:
    from torch import Tensor

    from dtx.dt.model import DecisionTransformerModel

Twins = Annotated[
    int,
    Range("needs at least 19: that one more untrained model exceeds 19 has a chance of 5%", low=19),
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
    from dtx.dt.load import untrained_like
    from dtx.dt.model import centre_state

    for number in range(count):
        twin = untrained_like(model, _STREAM + seed * _APART + number)
        if model.cfg.state_bias and model.cfg.state_encoder != "conv":
            centre_state(twin, seen.mean(0))
        yield twin


def of_untrained(values: Iterable[float]) -> Estimate:
    """What untrained models bring: their mean, from the smallest to the largest; n counts models.

    A number is above it only if it is above the largest.
    """
    numbers = np.asarray(list(values), float)
    ends = (float(numbers.min()), float(numbers.max()))  # NaN where one is
    return Estimate(
        float(numbers.mean()), *ends, len(numbers), f"all of {len(numbers)} untrained models"
    )
