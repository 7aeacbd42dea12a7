"""Numbers with their uncertainty: intervals that say n and kind, which of many differ, rank correlation.

Which interval. What counts is the independent observation: a layout, a head, an episode or a seed, not its
rows (``clusters``). For their mean:

- numbers without bounds (logits, restored differences, norms): Student's t below :data:`FEW` and above
  :data:`MANY`, between them the BCa bootstrap;
- numbers with bounds that say so (returns and probabilities: ``bounds=(0, 1)``): Gaffke's interval, which
  needs nothing of their distribution. Four returns that are all 0 do not make [0, 0] of it;
- shares: the exact binomial interval, of which Gaffke's is the generalisation;
- all cases there are (every layout of a deterministic player): :func:`enumerated`, nothing is sampled.

What holds (``tests/test_statistics.py`` measures all of it by simulation). t and BCa: 93 to 97 of 100
intervals cover the truth for numbers without gross skewness, from two observations on; for exponential
numbers 88 of 100 at n = 4 and 93 at n = 30. For two-point numbers t fails (60 of 100 at n = 4 if one in five
is 0): give the bounds. Exact binomial and Gaffke: at least 95, by construction more at small n (at n = 4
nearly all).

One column, or with ``*_columns`` many at once. SciPy is slow to import and is imported where it is called:
planning does not need it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from dtx.estimate import Estimate, Estimates
from dtx.resampling import (
    CHUNK,
    RESAMPLES,
    bca,
    gaffke_draws,
    wider,
)

__all__ = ["Estimate", "Estimates"]

LEVEL = 0.95
"""Coverage of every interval unless something else is asked for."""
FEW = 30
"""Below so many observations the bootstrap is too narrow, and Student's t is used."""
MANY = 1000
"""Above so many, BCa and t give the same ends to a hundredth of the width, and t is cheaper."""

Values = np.ndarray | Sequence[float]
Clusters = np.ndarray | Sequence[Hashable] | None
Bounds = tuple[float, float] | None


def mean_estimate(
    values: Values,
    *,
    clusters: Clusters = None,
    of: str = "episodes",
    bounds: Bounds = None,
    level: float = LEVEL,
) -> Estimate:
    """The mean of independent observations; see the top of this module for its interval.

    Args:
        values: (n,) observations. NaN is missing: left out, and not counted.
        clusters: (n,) names of what belongs together (a layout, a head, a seed): its mean counts once.
        of: What is counted, in the plural.
        bounds: Between which the observations lie whatever happens: (0, 1) for returns.
        level: Coverage.

    Returns:
        No interval (NaN) for fewer than two observations, unless there are bounds.

    Raises:
        ValueError: An observation is out of bounds.
    """
    column = np.asarray(values, float).reshape(-1, 1)
    return mean_columns(column, clusters=clusters, of=of, bounds=bounds, level=level)[0]


def mean_columns(
    values: np.ndarray,
    *,
    clusters: Clusters = None,
    of: str = "episodes",
    bounds: Bounds = None,
    level: float = LEVEL,
) -> Estimates:
    """:func:`mean_estimate` of many columns (n, columns) at once; all are resampled alike."""
    x = np.asarray(values, float)
    if clusters is not None:
        x = _cluster_means(x, np.asarray(clusters))
    missing, columns = np.isnan(x), x.shape[1]
    value, low, high = np.full((3, columns), np.nan)
    n, kind = np.zeros(columns, int), [""] * columns
    # Columns that miss the same rows are one block: mostly there is one.
    patterns, which = np.unique(missing, axis=1, return_inverse=True)
    for pattern, absent in enumerate(patterns.T):
        at = np.flatnonzero(which.reshape(-1) == pattern)
        block = x[np.ix_(~absent, at)]
        value[at] = block.mean(0) if len(block) else np.nan
        low[at], high[at], name = _ends(block, of, bounds, level)
        n[at] = len(block)
        for column in at:
            kind[column] = name
    return Estimates(value, low, high, n, kind)


def share_estimate(hits: int, n: int, *, of: str = "episodes", level: float = LEVEL) -> Estimate:
    """A share with its exact binomial (Clopper-Pearson) interval, which covers at least ``level``.

    Args:
        hits: How many of them. n: Of how many independent ones.
        of: What is counted, in the plural.
        level: Coverage, at least.
    """
    if not n:
        return Estimate(math.nan, math.nan, math.nan, 0, f"no interval, 0 {of}")
    from scipy import stats

    ends = stats.binomtest(int(hits), int(n)).proportion_ci(level, method="exact")
    return Estimate(
        hits / n, float(ends.low), float(ends.high), int(n), f"exact binomial, {n} {of}"
    )


def enumerated(value: float, n: int, *, of: str = "layouts") -> Estimate:
    """A number over all cases that there are: nothing was sampled, so that nothing is uncertain."""
    return Estimate(float(value), float(value), float(value), n, f"all {n} {of}", sampled=False)


def next_estimate(
    values: Values, *, of: str = "untrained models", level: float = LEVEL
) -> Estimate:
    """Where one more independent observation lies: t's prediction interval, for about normal numbers.

    What a number of one model is compared with where several others give the control: it must be beyond
    where another of *them* would lie, not beyond their mean.

    Args:
        values: (n,) observations; NaN is missing. of: What is counted, in the plural. level: Coverage.

    Returns:
        The value is their mean; no interval for fewer than two.
    """
    x = np.asarray(values, float)
    x = x[~np.isnan(x)]
    n = len(x)
    value = float(x.mean()) if n else math.nan
    if n < 2:
        return Estimate(value, math.nan, math.nan, n, f"no interval, {n} {of}")
    from scipy import stats

    half = stats.t.ppf((1 + level) / 2, n - 1) * x.std(ddof=1) * math.sqrt(1 + 1 / n)
    return Estimate(value, value - float(half), value + float(half), n, f"t of one more, {n} {of}")


def difference_estimate(
    one: Values,
    other: Values,
    *,
    of: str = "episodes",
    bounds: Bounds = None,
    level: float = LEVEL,
) -> Estimate:
    """Mean of ``one`` minus mean of ``other``, two independent samples: Welch's t, or Gaffke's with bounds.

    Paired observations (the same episodes, heads or layouts twice) are not independent: give
    :func:`mean_estimate` their differences.

    Args:
        one, other: (n,), (m,) independent observations. of, bounds, level: As of :func:`mean_estimate`.

    Returns:
        n is the smaller of the two numbers of observations.
    """
    from scipy import stats

    a, b = (x[~np.isnan(x)] for x in (np.asarray(one, float), np.asarray(other, float)))
    n = min(len(a), len(b))
    counted = f"{len(a)} and {len(b)} {of}"
    value = float(a.mean() - b.mean()) if n else math.nan
    if bounds is not None and n:
        below, above = gaffke_draws(a[:, None], bounds, 0), gaffke_draws(b[:, None], bounds, 1)
        low = np.quantile(below[0] - above[1], (1 - level) / 2)
        high = np.quantile(below[1] - above[0], (1 + level) / 2)
        return Estimate(value, float(low), float(high), n, f"Gaffke, {counted}")
    if n < 2:
        return Estimate(value, math.nan, math.nan, n, f"no interval, {counted}")
    if np.ptp(a) == 0 and np.ptp(b) == 0:
        return Estimate(value, value, value, n, f"Welch's t, {counted}, all equal")
    ends = stats.ttest_ind(a, b, equal_var=False).confidence_interval(level)
    return Estimate(value, float(ends.low), float(ends.high), n, f"Welch's t, {counted}")


def ratio_estimate(
    numerator: Values, denominator: Values, *, of: str = "episodes", level: float = LEVEL
) -> Estimate:
    """Sum over sum of paired observations, with the t interval of its linear approximation.

    The mean over all steps of episodes of different lengths is one: sums of the steps' values over lengths.

    Args:
        numerator, denominator: (n,) of the same independent observations, the second positive.
        of, level: As of :func:`mean_estimate`.

    Returns:
        Covers as t does if the denominator varies by less than its mean; no interval for fewer than two.
    """
    above, below = np.asarray(numerator, float), np.asarray(denominator, float)
    value = float(above.sum() / below.sum()) if below.sum() else math.nan
    # The ratio changes with an observation as its residual does, in units of the mean denominator; long
    # ones pull it towards themselves, for which their residual is made larger, as the jackknife does.
    share = below / below.sum() if below.sum() else below
    residual = (above - value * below) / below.mean() / np.where(share < 1, 1 - share, 1.0)
    linear = mean_estimate(residual, of=of, level=level)
    low, high = (value + end - linear.value for end in (linear.low, linear.high))
    return Estimate(value, low, high, linear.n, linear.kind.replace(" over", " of a ratio over"))


def bootstrap_estimate(
    samples: Sequence[np.ndarray],
    statistic: Callable[..., np.ndarray],
    *,
    of: str,
    paired: bool = False,
    level: float = LEVEL,
) -> Estimate:
    """Any statistic of one or more samples, with SciPy's BCa bootstrap interval.

    Args:
        samples: (n,) independent observations each; with ``paired`` all as long, and drawn together.
        statistic: Of the samples, taking the ``axis`` along which their observations lie.
        of: What is counted, in the plural.
        paired: The i-th observations of all samples belong together.
        level: Coverage.

    Returns:
        n is the smallest number of observations; no interval below :data:`FEW`, where BCa is too narrow.
    """
    n = min(map(len, samples))
    value = float(statistic(*samples, axis=-1))
    if n < FEW:
        return Estimate(value, math.nan, math.nan, n, f"no interval, {n} {of}")
    from scipy import stats

    ends = stats.bootstrap(
        samples,
        statistic,
        n_resamples=RESAMPLES,
        batch=max(1, CHUNK // max(map(len, samples))),
        vectorized=True,
        paired=paired,
        confidence_level=wider(level, n),
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Estimate(value, float(ends.low), float(ends.high), n, f"BCa over {n} {of}")


def holm(p: np.ndarray, level: float = 0.05) -> np.ndarray:
    """Which of many hypotheses are rejected when all together may err with probability ``level``.

    Holm's step-down method (1979), whatever their dependence. NaN is never rejected. Less strict, for the
    expected share of wrong ones among those found: ``scipy.stats.false_discovery_control``.

    Args:
        p: (n,) p-values.

    Returns:
        (n,) bool.
    """
    p = np.asarray(p, float)
    tested = int((~np.isnan(p)).sum())
    order = np.argsort(p)[:tested]  # NaN last
    failed = p[order] > level / np.arange(tested, 0, -1)
    rejected = np.zeros(len(p), bool)
    rejected[order[: int(failed.argmax()) if failed.any() else tested]] = True
    return rejected


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation, ties sharing their mean rank; NaN if either is constant."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    from scipy import stats

    return float(stats.spearmanr(a, b).statistic)


def spearman_estimate(a: np.ndarray, b: np.ndarray, *, of: str, level: float = LEVEL) -> Estimate:
    """Spearman's rank correlation of independent pairs, with the interval of Bonett and Wright (2000).

    Args:
        a, b: (n,) observations. of: What is counted, in the plural. level: Coverage.

    Returns:
        No interval below :data:`FEWEST_RANKS` pairs, which have too few orders, or if either is constant.
    """
    n, value = len(a), spearman(a, b)
    if n < FEWEST_RANKS or math.isnan(value):
        return Estimate(value, math.nan, math.nan, n, f"no interval, {n} {of}")
    from scipy import stats

    half = stats.norm.ppf((1 + level) / 2) * math.sqrt((1 + value**2 / 2) / (n - 3))
    # Perfect order has no finite transform: it stands for the nearest order that is not perfect.
    nearest = 1 - 6 / (n * (n**2 - 1))
    centre = math.atanh(min(max(value, -nearest), nearest))
    low, high = math.tanh(centre - half), math.tanh(centre + half)
    return Estimate(value, min(low, value), max(high, value), n, f"Bonett-Wright over {n} {of}")


FEWEST_RANKS = 8
"""Pairs below which a rank correlation has no interval here."""


def effective_rank(singular_values: np.ndarray) -> float:
    """Participation ratio of squared singular values: 1 for one direction, r for r equal ones."""
    square = np.asarray(singular_values) ** 2
    return float(square.sum() ** 2 / max((square**2).sum(), 1e-300))


def _cluster_means(x: np.ndarray, names: np.ndarray) -> np.ndarray:
    """(clusters, columns) means of what is not missing."""
    _, index = np.unique(names, return_inverse=True)
    there = ~np.isnan(x)
    sums, counts = np.zeros((2, index.max(initial=-1) + 1, x.shape[1]))
    np.add.at(sums, index, np.where(there, x, 0.0))
    np.add.at(counts, index, there)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _ends(
    x: np.ndarray, of: str, bounds: Bounds, level: float
) -> tuple[np.ndarray | float, np.ndarray | float, str]:
    """Lower and upper ends of complete columns (n, columns), and the kind."""
    n = len(x)
    if n < (2 if bounds is None else 1):
        return math.nan, math.nan, f"no interval, {n} {of}"
    if bounds is not None:
        below, above = gaffke_draws(x, bounds, 0)
        ends = (
            np.quantile(below, (1 - level) / 2, axis=0),
            np.quantile(above, (1 + level) / 2, axis=0),
        )
        return *ends, f"Gaffke over {n} {of}"
    if FEW <= n <= MANY:
        return *bca(x, level), f"BCa over {n} {of}"
    from scipy import stats

    mean, half = x.mean(0), stats.t.ppf((1 + level) / 2, n - 1) * x.std(0, ddof=1) / math.sqrt(n)
    return mean - half, mean + half, f"t over {n} {of}"
