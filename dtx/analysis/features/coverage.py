"""The best feature and threshold of each fact: chosen on some rows, scored on others.

A feature stands at each row at a *level*: how many of its thresholds it passes. One sparse product of levels
and facts then counts, for every feature, level and fact at once, the tokens at which they come together; the
counts of "at least this level" are their sums from the top. Nothing of features x facts x rows is ever there.

Letters: n rows, f features, q thresholds, m facts, c groups of episodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csc_array, csr_array

from dtx.dictionary.sparse import width_of
from dtx.statistics import Estimate, mean_estimate

CHUNK = 16_384
"""Rows of a product: that many facts stand in memory as numbers."""
DENSE = 64
"""Features that are chosen among at once, so that their scores with all facts stay small."""
EXACT = 2**24
"""Whole numbers up to which float32 counts exactly."""


@dataclass(frozen=True)
class Levels:
    """Features at rows as levels.

    Attributes:
        codes: (n, f) uint8: how many thresholds are passed; what is not stored is 0.
        cuts: (f, q) the thresholds, ascending. A feature is on at one if it is above it.
        two_sided: Whether "not above a threshold" is a candidate too: of bare dimensions, whose sign means
            nothing.
    """

    codes: csr_array
    cuts: np.ndarray
    two_sided: bool = False

    @property
    def count(self) -> int:
        """Thresholds of a feature."""
        return self.cuts.shape[1]

    def at(self, rows: np.ndarray) -> csr_array:
        """(rows, f q) of ones: the level at which each feature is on, its first level first."""
        some = self.codes[rows]
        column = some.indices.astype(np.int64) * self.count + some.data - 1
        shape = (len(rows), width_of(self.codes) * self.count)
        return csr_array((np.ones(len(column), np.float32), column, some.indptr), shape=shape)


def levels_of(
    values: csc_array | np.ndarray, chosen_on: np.ndarray, weight: np.ndarray, thresholds: int
) -> Levels:
    """Levels of features, with thresholds at quantiles of each.

    Args:
        values: (n, f) features. Sparse: on above 0, and thresholds are 0 and quantiles of where it is on.
            Dense: thresholds are quantiles, and both sides are read.
        chosen_on: Rows whose quantiles are taken.
        weight: (n,) how often each row occurs.
        thresholds: Of each feature.
    """
    if isinstance(values, np.ndarray):
        return _dense_levels(values, chosen_on, weight, thresholds)
    values = csc_array(values)
    there = np.zeros(len(weight), bool)
    there[chosen_on] = True
    cuts = np.full((width_of(values), thresholds), np.inf, np.float32)
    cuts[:, 0] = 0
    codes = np.zeros(len(values.data), np.uint8)
    shares = np.arange(1, thresholds) / thresholds
    for feature, (begin, end) in enumerate(zip(values.indptr[:-1], values.indptr[1:], strict=True)):
        rows, x = values.indices[begin:end], values.data[begin:end]
        used = there[rows] & (x > 0)
        if used.any() and thresholds > 1:
            cuts[feature, 1:] = quantiles(x[used], weight[rows[used]], shares)
        codes[begin:end] = np.searchsorted(cuts[feature], x, "left")
    found = csc_array((codes, values.indices, values.indptr), shape=values.shape)
    found.eliminate_zeros()
    return Levels(csr_array(found), cuts)


def _dense_levels(
    values: np.ndarray, chosen_on: np.ndarray, weight: np.ndarray, thresholds: int
) -> Levels:
    shares = np.arange(1, thresholds + 1) / (thresholds + 1)
    cuts = np.zeros((values.shape[1], thresholds), np.float32)
    codes = np.zeros(values.shape, np.uint8)
    for feature in range(values.shape[1]):
        x = values[:, feature]
        cuts[feature] = quantiles(x[chosen_on], weight[chosen_on], shares)
        codes[:, feature] = np.searchsorted(cuts[feature], x, "left")
    return Levels(csr_array(codes), cuts, two_sided=True)


def quantiles(values: np.ndarray, weight: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Quantiles of values (v,) that occur ``weight`` times each, as values that occur."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weight[order], dtype=np.float64)
    place = np.searchsorted(below, shares * below[-1], "left")
    return values[order][np.minimum(place, len(order) - 1)]


@dataclass(frozen=True)
class Counts:
    """How often features are on, and on together with facts, over some rows, each as often as it occurs.

    Attributes:
        together: (f, q, m) tokens at which the feature is on at that threshold and the fact is true.
        on: (f, q) tokens at which it is on. rows: (f, q) distinct prefixes at which it is.
        true: (m,) tokens at which the fact is true. total: All tokens.
    """

    together: np.ndarray
    on: np.ndarray
    rows: np.ndarray
    true: np.ndarray
    total: float


def count(levels: Levels, rows: np.ndarray, weight: np.ndarray, facts: np.ndarray) -> Counts:
    """Count on some rows.

    Args:
        levels: Of n rows. rows: Which of them. weight: (n,). facts: (n, m) bool.
    """
    features, q, m = width_of(levels.codes), levels.count, facts.shape[1]
    kind = np.float32 if weight[rows].sum() < EXACT else np.float64
    together = np.zeros((features * q, m), kind)
    on, distinct = np.zeros((2, features * q))
    true = np.zeros(m)
    for begin in range(0, len(rows), CHUNK):
        part = rows[begin : begin + CHUNK]
        one = levels.at(part)
        times = weight[part].astype(kind)
        there = facts[part].astype(kind) * times[:, None]
        together += one.T.astype(kind, copy=False) @ there
        on += one.T @ times.astype(np.float64)
        distinct += np.bincount(one.indices, minlength=features * q)
        true += there.sum(0, dtype=np.float64)

    def from_the_top(flat: np.ndarray) -> np.ndarray:
        each = flat.reshape(features, q, *flat.shape[1:])
        for level in range(
            q - 2, -1, -1
        ):  # in place: the whole of it is the largest array there is
            each[:, level] += each[:, level + 1]
        return each

    return Counts(
        together=from_the_top(together),
        on=from_the_top(on),
        rows=from_the_top(distinct),
        true=true,
        total=float(weight[rows].sum()),
    )


@dataclass(frozen=True)
class Choice:
    """The feature that tells each of m facts best.

    Attributes:
        feature, level: (m,) the fact is told by "the feature passes its thresholds up to this one".
        below: (m,) bool: by the opposite.
        f1: (m,) on the rows that it was chosen on.
    """

    feature: np.ndarray
    level: np.ndarray
    below: np.ndarray
    f1: np.ndarray


def choose(counts: Counts, two_sided: bool = False) -> Choice:
    """The best of all features and thresholds for each fact by F1; of equal ones the first."""
    features, q, m = counts.together.shape
    best = np.full(m, -1.0)
    place, below = np.zeros(m, np.int64), np.zeros(m, bool)
    for begin in range(0, features, DENSE):
        part = slice(begin, begin + DENSE)
        together = counts.together[part].reshape(-1, m).astype(np.float64)
        on = counts.on[part].reshape(-1, 1)
        sides = [(False, together, on)]
        if two_sided:
            sides.append((True, counts.true - together, counts.total - on))
        for side, both, alone in sides:
            score = 2 * both / np.maximum(alone + counts.true, 1e-300)
            first = score.argmax(0)
            value = score[first, np.arange(m)]
            better = value > best
            best[better], below[better] = value[better], side
            place[better] = begin * q + first[better]
    return Choice(place // q, place % q, below, np.maximum(best, 0))


@dataclass(frozen=True)
class Scores:
    """How well chosen features tell m facts on other rows.

    Attributes:
        f1: (m,); NaN where a fact is never true there.
        influence: (c, m) how far each group of episodes moves it, of mean 0 over the groups: what the
            interval of any mean or difference of F1s is made of.
    """

    f1: np.ndarray
    influence: np.ndarray


def score(
    levels: Levels,
    choice: Choice,
    rows: np.ndarray,
    weight: np.ndarray,
    facts: np.ndarray,
    group: np.ndarray,
) -> Scores:
    """F1 of the chosen features.

    Args:
        levels: Of n rows. choice: Of m facts. rows: Those that it is scored on.
        weight: (n,). facts: (n, m) bool. group: (n,) of each row's episode, from 0 to the number of groups.
    """
    groups, m = int(group.max()) + 1, facts.shape[1]
    weight, group, facts = weight[rows].astype(np.float64), group[rows], facts[rows]
    of_group = csr_array((weight, (group, np.arange(len(rows)))), shape=(groups, len(rows)))
    true = np.zeros((groups, m))
    for begin in range(0, len(rows), CHUNK):
        part = slice(begin, begin + CHUNK)
        true += of_group[:, part] @ facts[part].astype(np.float64)
    total = np.bincount(group, weight, groups)
    columns = csc_array(levels.codes[rows])
    both, alone = np.zeros((2, groups, m))
    for fact in range(m):
        feature = choice.feature[fact]
        at = slice(columns.indptr[feature], columns.indptr[feature + 1])
        where = columns.indices[at][columns.data[at] > choice.level[fact]]
        alone[:, fact] = np.bincount(group[where], weight[where], groups)
        hit = where[facts[where, fact]]
        both[:, fact] = np.bincount(group[hit], weight[hit], groups)
    both = np.where(choice.below, true - both, both)
    alone = np.where(choice.below, total[:, None] - alone, alone)
    return of_sums(2 * both, alone + true, true)


def of_sums(numerator: np.ndarray, denominator: np.ndarray, true: np.ndarray) -> Scores:
    """F1 as a ratio of sums over groups (c, m), and its linear approximation by group."""
    below = denominator.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.where(true.sum(0) > 0, numerator.sum(0) / below, np.nan)
        share = denominator / below
        residual = (numerator - f1 * denominator) / denominator.mean(0)
    # Large groups pull the ratio towards themselves, for which their residual is made larger.
    return Scores(f1, residual / np.where(share < 1, 1 - share, 1.0))


def always_on(rows: np.ndarray, weight: np.ndarray, facts: np.ndarray, group: np.ndarray) -> Scores:
    """F1 of a feature that is always on, 2p / (1 + p) at a fact of share p."""
    groups = int(group.max()) + 1
    of = csr_array(
        (weight[rows].astype(np.float64), (group[rows], np.arange(len(rows)))),
        shape=(groups, len(rows)),
    )
    true = np.zeros((groups, facts.shape[1]))
    for begin in range(0, len(rows), CHUNK):
        true += of[:, begin : begin + CHUNK] @ facts[rows[begin : begin + CHUNK]].astype(np.float64)
    total = np.asarray(of.sum(1)).reshape(-1, 1)
    return of_sums(2 * true, true + total, true)


def over_groups(value: float, influence: np.ndarray) -> Estimate:
    """A number with the interval that the groups of episodes give it: t over them."""
    linear = mean_estimate(influence, of="groups of episodes")
    low, high = (value + end - linear.value for end in (linear.low, linear.high))
    return Estimate(value, low, high, linear.n, linear.kind)
