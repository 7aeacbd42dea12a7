"""What controls of several analyses share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import numpy as np

from dtx.config.ranges import AT_MOST, Range
from dtx.statistics import Estimate

STRONGEST = 0.95
"""Quantile of the random controls that a number must exceed."""
RandomControls = Annotated[int, Range("a 95% quantile needs at least 20", low=20), AT_MOST]
"""How many random controls are drawn, of which a high quantile is taken."""


def spread(values: Iterable[float], of: str = "untrained models") -> Estimate:
    """Values of a control as an estimate: their mean, from the smallest to the largest; n counts them.

    A number is above it only if it is above the largest. No values, or one that is missing: no interval.

    Args:
        of: What they are of, in the plural.
    """
    numbers = np.asarray(list(values), float)
    if not len(numbers):
        return Estimate(np.nan, np.nan, np.nan, 0, f"no {of}")
    ends = float(numbers.min()), float(numbers.max())  # NaN where one is
    return Estimate(float(numbers.mean()), *ends, len(numbers), f"all of {len(numbers)} {of}")
