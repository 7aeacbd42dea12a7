"""Draws behind the intervals of :mod:`dtx.statistics`: the bootstrap's and Gaffke's, many columns at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

RESAMPLES = 4000
"""Of the bootstrap: 75 or more are beyond each end."""
CHUNK = 2**22
"""Most numbers that are held at once."""


@lru_cache(maxsize=8)  # 32 MB at the most
def resampled(n: int) -> np.ndarray:
    """(resamples, n) how often each of n observations is drawn, as shares; the same for all."""
    drawn = np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
    place = (
        drawn + n * np.arange(RESAMPLES)[:, None]
    )  # counting is five times as fast as a multinomial
    return np.bincount(place.ravel(), minlength=RESAMPLES * n).reshape(RESAMPLES, n) / n


def gaffke_draws(
    x: np.ndarray, bounds: tuple[float, float], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(resamples, columns) draws below and above the mean of (n, columns): their quantiles are the ends.

    A mean with random weights over the observations and one more, which lies at the bound (Gaffke 2005;
    Learned-Miller and Thomas 2020). For zeros and ones the ends are Clopper and Pearson's.
    """
    low, high = bounds
    if x.size and (x.min() < low - 1e-9 or x.max() > high + 1e-9):
        raise ValueError(f"observations between {x.min()} and {x.max()} are not in [{low}, {high}]")
    if x.shape[1] == 1 and len(x):
        value, count = np.unique(x, return_counts=True)
        if 4 * len(value) < len(x):  # returns take few values: their lengths together at once
            weights = np.random.default_rng(seed).standard_gamma(
                np.array([1, *count]), (RESAMPLES, 1 + len(value))
            )
            weights /= weights.sum(1, keepdims=True)
            inside = weights[:, 1:] @ value[:, None]
            return inside + low * weights[:, :1], inside + high * weights[:, :1]
    below, above = [], []
    for weights in _spacings(len(x) + 1, seed):
        inside = weights[:, 1:] @ x
        below.append(inside + low * weights[:, :1])
        above.append(inside + high * weights[:, :1])
    return np.concatenate(below), np.concatenate(above)


@lru_cache(maxsize=8)
def _few_spacings(n: int, seed: int) -> np.ndarray:
    weights = np.random.default_rng(seed).standard_exponential((RESAMPLES, n))
    return weights / weights.sum(1, keepdims=True)


def _spacings(n: int, seed: int) -> Iterator[np.ndarray]:
    """Yield (some resamples, n) lengths into which random points cut a line of length 1."""
    if RESAMPLES * n <= CHUNK:
        yield _few_spacings(n, seed)
        return
    rng, size = np.random.default_rng(seed), max(1, CHUNK // n)
    for begin in range(0, RESAMPLES, size):
        weights = rng.standard_exponential((min(size, RESAMPLES - begin), n))
        yield weights / weights.sum(1, keepdims=True)


def bca(x: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the bias-corrected and accelerated bootstrap of each column's mean (Efron 1987).

    What ``scipy.stats.bootstrap`` gives, at a level that is wider as t is wider than the normal distribution
    (Hesterberg 2015); all columns are resampled alike, which makes thousands of them quick.
    """
    n, columns = x.shape
    drawn = resampled(n)
    low, high = np.empty((2, columns))
    for begin in range(0, columns, size := max(1, CHUNK // RESAMPLES)):
        at = slice(begin, begin + size)
        low[at], high[at] = bca_ends(drawn @ x[:, at], x[:, at], wider(level, n))
    return low, high


def bca_ends(means: np.ndarray, x: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Ends (columns,) from resampled means (resamples, columns) of observations (n, columns)."""
    from scipy.special import ndtr, ndtri

    means = np.sort(means, axis=0)
    mean, resamples = x.mean(0), len(means)
    flat = np.ptp(x, axis=0) == 0
    # Rounding in the products must not decide on which side of the mean a resample is.
    near = 1e-9 * np.maximum(np.ptp(x, axis=0), 1e-300)
    under = ((means < mean - near).sum(0) + (means <= mean + near).sum(0)) / (2 * resamples)
    bias = ndtri(np.where(flat, 0.5, under))
    away = x - mean
    spread = np.where(flat, 1.0, (away**2).sum(0))
    acceleration = (away**3).sum(0) / (6 * spread**1.5)
    ends = []
    for side in ((1 - level) / 2, (1 + level) / 2):
        z = bias + ndtri(side)
        place = ndtr(bias + z / (1 - acceleration * z)) * (resamples - 1)
        floor = np.floor(place).astype(int)
        pair = [
            means[np.minimum(f, resamples - 1), np.arange(len(mean))] for f in (floor, floor + 1)
        ]
        ends.append(np.where(flat, mean, pair[0] + (pair[1] - pair[0]) * (place - floor)))
    return ends[0], ends[1]


def wider(level: float, n: int) -> float:
    """The normal level at which the bootstrap, too narrow by sqrt((n-1)/n) and by z/t, covers ``level``."""
    from scipy import stats

    z = math.sqrt(n / (n - 1)) * stats.t.ppf((1 + level) / 2, n - 1)
    return float(2 * stats.norm.cdf(z) - 1)
