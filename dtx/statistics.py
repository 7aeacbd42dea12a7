"""Intervals and rank correlation, vectorised over groups."""

from __future__ import annotations

import numpy as np


def bootstrap(
    values: np.ndarray, resamples: int, seed: int, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean.

    Args:
        values: (n,) independent observations.
        resamples: Number of resamples.
        seed: Of the resampling.
        level: Coverage.

    Returns:
        Lower and upper end; the mean itself twice if all values are equal. NaN for no values.
    """
    if not len(values):
        return float("nan"), float("nan")
    distinct, counts = np.unique(values, return_counts=True)
    # Returns take few distinct values: resample how often each occurs, not the observations.
    drawn = np.random.default_rng(seed).multinomial(
        len(values), counts / len(values), size=resamples
    )
    means = drawn @ distinct / len(values)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation, ties sharing their mean rank; NaN if either is constant."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
