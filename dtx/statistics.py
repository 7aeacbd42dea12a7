"""Numbers with their uncertainty: intervals, which of many differ, rank correlation, effective rank."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

FEW = 30
"""Below so many observations the percentile bootstrap is too narrow, and Student's t is used."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval, and what that rests on.

    Attributes:
        value: The number. low, high: Ends of the interval; NaN if there is none.
        n: Independent observations behind it (clusters, not rows).
        kind: How the interval was made: "t over 4 layouts".
    """

    value: float
    low: float
    high: float
    n: int
    kind: str

    def columns(self) -> dict[str, float | int | str]:
        """What stands beside a number in a table: low, high, n, interval."""
        return {"low": self.low, "high": self.high, "n": self.n, "interval": self.kind}

    def __str__(self) -> str:
        if self.low == self.high == self.value or math.isnan(self.low):
            return f"{self.value:.3g} ({self.kind})"
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}] ({self.kind})"


def mean_estimate(
    values: np.ndarray | Sequence[float],
    *,
    clusters: Sequence[Hashable] | np.ndarray | None = None,
    of: str = "episodes",
    level: float = 0.95,
) -> Estimate:
    """The mean of independent observations with Student's t interval.

    Args:
        values: (n,) observations.
        clusters: (n,) names of what belongs together (a layout, a head, a seed): its mean counts once.
        of: What is counted, in the plural.
        level: Coverage.

    Returns:
        No interval (NaN) for fewer than two observations.
    """
    x = np.asarray(values, float)
    if clusters is not None:
        _, index = np.unique(np.asarray(clusters), return_inverse=True)
        x = np.bincount(index, x) / np.bincount(index)
    n = len(x)
    if n < 2:
        value = float(x[0]) if n else math.nan
        return Estimate(value, math.nan, math.nan, n, f"no interval, {n} {of}")
    from scipy import stats  # slow to import, and planning does not need it

    half = float(stats.t.ppf((1 + level) / 2, n - 1) * x.std(ddof=1) / math.sqrt(n))
    mean = float(x.mean())
    return Estimate(mean, mean - half, mean + half, n, f"t over {n} {of}")


def share_estimate(hits: int, n: int, *, of: str = "episodes", level: float = 0.95) -> Estimate:
    """A share with its exact binomial (Clopper-Pearson) interval.

    Args:
        hits: How many of them. n: Of how many independent ones.
        of: What is counted, in the plural.
        level: Coverage, at least.
    """
    if not n:
        return Estimate(math.nan, math.nan, math.nan, 0, f"no interval, 0 {of}")
    from scipy import stats

    ends = stats.binomtest(int(hits), int(n)).proportion_ci(level, method="exact")
    return Estimate(hits / n, float(ends.low), float(ends.high), n, f"exact binomial, {n} {of}")


def enumerated(value: float, n: int, *, of: str = "layouts") -> Estimate:
    """A number over all cases that there are: nothing was sampled, so that nothing is uncertain."""
    return Estimate(float(value), float(value), float(value), n, f"all {n} {of}")


def holm(p: np.ndarray, level: float = 0.05) -> np.ndarray:
    """Which of many hypotheses are rejected when all together may err with probability ``level``.

    Holm's step-down method (1979). NaN is never rejected.

    Args:
        p: (n,) p-values.

    Returns:
        (n,) bool.
    """
    p = np.asarray(p, float)
    order = np.argsort(p)  # NaN last
    steps = level / np.arange(len(p), 0, -1)
    failed = ~(p[order] <= steps)
    rejected = np.zeros(len(p), bool)
    rejected[order[: int(failed.argmax()) if failed.any() else len(p)]] = True
    return rejected


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
