"""Intervals, rank correlation, effective rank."""

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


def effective_rank(singular_values: np.ndarray) -> float:
    """Participation ratio of squared singular values: 1 for one direction, r for r equal ones."""
    square = np.asarray(singular_values) ** 2
    return float(square.sum() ** 2 / max((square**2).sum(), 1e-300))


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def bootstrap_columns(
    values: np.ndarray, resamples: int, seed: int, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap intervals of the means of many columns, all resampled alike.

    Few observations have few distinct resamples, which are computed once: thousands of columns are quick.

    Args:
        values: (n, columns), rows are independent observations.
        resamples: Number of resamples.
        seed: Of the resampling.
        level: Coverage.

    Returns:
        Lower and upper ends (columns,); NaN for no values.
    """
    n, columns = values.shape
    if not n:
        return np.full(columns, np.nan), np.full(columns, np.nan)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    weights, times = np.unique(drawn, axis=0, return_counts=True)
    ends = np.empty((2, columns))
    for begin in range(0, columns, 1024):  # bounds memory
        means = weights @ values[:, begin : begin + 1024] / n
        order = means.argsort(0, kind="stable")
        means, upto = np.take_along_axis(means, order, 0), times[order].cumsum(0)
        for end, share in zip(ends, ((1 - level) / 2, (1 + level) / 2), strict=True):
            place = share * (resamples - 1)
            below, above = (
                np.take_along_axis(means, (upto <= rank).sum(0)[None], 0)[0]
                for rank in (np.floor(place), np.ceil(place))
            )
            end[begin : begin + 1024] = below + (above - below) * (place % 1)
    return ends[0], ends[1]
