"""How well a label tells where a feature is on: F1 with its interval over episodes, margins over controls.

Letters: n rows of a half, e episodes, p rows at which a feature is on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dtx.statistics import LEVEL


@dataclass(frozen=True)
class F1:
    """An F1 score.

    Attributes:
        value: Of all rows.
        influence_e: How far each episode moves it: its linear approximation, which sums to 0.
    """

    value: float
    influence_e: np.ndarray


@dataclass(frozen=True)
class Half:
    """One half of the prefixes.

    Attributes:
        rows: (n,) their numbers among the rows that are looked at.
        weight: (n,) how often each occurs.
        values: (n, m) bool, the facts.
        episode: (n,) number of its episode, from 0.
    """

    rows: np.ndarray
    weight: np.ndarray
    values: np.ndarray
    episode: np.ndarray

    @cached_property
    def total(self) -> float:
        """Weight of all rows."""
        return float(self.weight.sum())

    @cached_property
    def episodes(self) -> int:
        """How many episodes there are."""
        return int(self.episode.max(initial=-1)) + 1

    def density(self, on: np.ndarray) -> float:
        """Share of the tokens at which a feature is on, by its rows (p,)."""
        return float(self.weight[on].sum()) / self.total

    def f1(self, on: np.ndarray, predicted: np.ndarray) -> float:
        """F1 of a prediction (n,) bool of a feature that is on at rows (p,)."""
        both = self.weight[on[predicted[on]]].sum()
        either = self.weight[on].sum() + self.weight[predicted].sum()
        return float(2 * both / either) if either else 0.0

    def with_influence(self, on: np.ndarray, predicted: np.ndarray) -> F1:
        """The same with what each episode adds to it."""
        hit = on[predicted[on]]
        both_e = self._by_episode(hit)
        either_e = self._by_episode(on) + self._by_episode(np.flatnonzero(predicted))
        either = either_e.sum()
        value = float(2 * both_e.sum() / either) if either else 0.0
        return F1(value, (2 * both_e - value * either_e) / max(either, 1e-300))

    def balanced_accuracy(self, on: np.ndarray, predicted: np.ndarray) -> float:
        """Mean of the shares of tokens with and without the feature that are predicted rightly."""
        positive, hit = self.weight[on].sum(), self.weight[on[predicted[on]]].sum()
        false = self.weight[predicted].sum() - hit
        negative = self.total - positive
        if not positive or not negative:
            return math.nan
        return float(hit / positive + 1 - false / negative) / 2

    def _by_episode(self, rows: np.ndarray) -> np.ndarray:
        return np.bincount(self.episode[rows], self.weight[rows], self.episodes)


def always_on(density: float) -> float:
    """F1 of a prediction that is always on, of a feature of this density."""
    return 2 * density / (1 + density)


def margin(own: F1, others: Sequence[F1]) -> tuple[float, float, float]:
    """By how much an F1 is above the largest of others: value, and ends of its interval over episodes.

    Each difference has its interval, t's for the linear approximation; the smallest difference is the value,
    the smallest lower and upper ends are the ends.
    """
    from scipy import stats

    ends = []
    for other in others:
        difference_e = own.influence_e - other.influence_e
        there = int((difference_e != 0).sum())
        value = own.value - other.value
        if there < 2:  # the same prediction, or one episode: nothing is known of the difference
            ends.append((value, min(value, 0.0), max(value, 0.0)))
            continue
        spread = math.sqrt(float((difference_e**2).sum()) * there / (there - 1))
        half = float(stats.t.ppf((1 + LEVEL) / 2, there - 1)) * spread
        ends.append((value, value - half, value + half))
    value, low, high = (min(column) for column in zip(*ends, strict=True))
    return value, low, high
