"""What features are among themselves: the board read from precise ones, absorption, splitting, duplicates.

A feature *carries* a fact at a threshold from which on the fact is nearly always true where it is on.

Letters: n rows, f features, q thresholds, m facts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csc_array, csr_array

from dtx.analysis.features.coverage import CHUNK, Choice, Counts, Levels

FEWEST = 10
"""Distinct prefixes at which a feature must be on to carry a fact: on three, any feature is precise."""
MOST_PARTS = 32
"""Features after which splitting stops counting."""


def carrying(counts: Counts, precision: float, facts: int) -> np.ndarray:
    """(f, q, m) bool: whether a feature at that level carries a fact.

    Args:
        counts: On the rows that features are chosen on.
        precision: Share of the tokens at which it is on that the fact must be true at. It must be met from
            some threshold on, and then holds for all levels above.
        facts: So many of those that were counted, the first ones.
    """
    carries = np.zeros((*counts.on.shape, facts), bool)
    enough = counts.rows >= FEWEST
    for feature in range(len(carries)):
        share = (
            counts.together[feature, :, :facts] / np.maximum(counts.on[feature], 1e-300)[:, None]
        )
        good = (share >= precision) & enough[feature][:, None]
        carries[feature] = np.maximum.accumulate(good, axis=0)
    return carries


def board(
    levels: Levels, carries: np.ndarray, rows: np.ndarray, weight: np.ndarray, facts: np.ndarray
) -> float:
    """Mean F1 of a row's facts as read from the features that carry them (Karvonen et al. 2024).

    Args:
        levels: Of n rows. carries: (f, q, m). rows: Those that are read. weight: (n,). facts: (n, m) bool.

    Returns:
        Weighted by how often each row occurs. A row where no fact is true and none is read counts 1.
    """
    table = carries.reshape(-1, carries.shape[2]).astype(np.float32)
    total = 0.0
    for begin in range(0, len(rows), CHUNK):
        part = rows[begin : begin + CHUNK]
        read = (levels.at(part) @ table) > 0
        true = facts[part]
        both, either = 2.0 * (read & true).sum(1), read.sum(1) + true.sum(1)
        total += float(weight[part] @ np.where(either > 0, both / np.maximum(either, 1), 1.0))
    return total / float(weight[rows].sum())


def absorbed(
    levels: Levels,
    choice: Choice,
    f1: np.ndarray,
    carries: np.ndarray,
    rows: np.ndarray,
    weight: np.ndarray,
    facts: np.ndarray,
    main: float,
) -> np.ndarray:
    """Share of a fact's tokens at which its main feature is silent and another feature carries it.

    Args:
        levels: Of n rows. choice: The main feature of each fact. f1: (m,) of it.
        carries: (f, q, m). rows: Those that are looked at. weight: (n,). facts: (n, m) bool.
        main: F1 from which a fact has a main feature.

    Returns:
        (m,); NaN where a fact has none.
    """
    found = np.full(len(f1), np.nan)
    at = levels.at(rows)
    columns = csc_array(levels.codes[rows])
    for fact in np.flatnonzero(f1 >= main):
        feature = choice.feature[fact]
        silent = facts[rows, fact].copy()
        there = slice(columns.indptr[feature], columns.indptr[feature + 1])
        silent[columns.indices[there][columns.data[there] > choice.level[fact]]] = False
        others = carries[:, :, fact].astype(np.float32)
        others[feature] = 0
        taken = silent & ((at @ others.reshape(-1)) > 0)
        true = weight[rows][facts[rows, fact]].sum()
        found[fact] = weight[rows][taken].sum() / true if true else np.nan
    return found


@dataclass(frozen=True)
class Parts:
    """Into how many features each fact is split.

    Attributes:
        needed: (m,) features for that share of the recall of all that carry it; NaN: none does.
        recall: (m,) share of the fact's tokens at which any feature carries it.
    """

    needed: np.ndarray
    recall: np.ndarray


def split(
    levels: Levels,
    carries: np.ndarray,
    rows: np.ndarray,
    weight: np.ndarray,
    facts: np.ndarray,
    recall: float,
) -> Parts:
    """How many features it takes to reach most of the recall, taking the one that adds most each time.

    Args:
        levels: Of n rows. carries: (f, q, m). rows: Those that are looked at. weight: (n,).
        facts: (n, m) bool. recall: Share of the recall of all features together.
    """
    needed, reached = np.full((2, facts.shape[1]), np.nan)
    q = levels.count
    at = levels.at(rows)
    for fact in range(facts.shape[1]):
        true = np.flatnonzero(facts[rows, fact])
        if not len(true):
            continue
        of = at[true]
        keep = carries[:, :, fact].reshape(-1)[of.indices]
        line = np.repeat(np.arange(len(true)), np.diff(of.indptr))[keep]
        feature = (of.indices // q)[keep]
        left = weight[rows][true].astype(np.float64)
        total = left.sum()
        by_feature = csr_array(
            (np.ones(len(line), np.float64), (feature, line)), shape=(len(carries), len(true))
        )
        all_of_them = float(left[np.unique(line)].sum())
        reached[fact] = all_of_them / total
        if not all_of_them:
            continue
        gained, used = 0.0, 0
        while gained < recall * all_of_them * (1 - 1e-12) and used < MOST_PARTS:
            gain = by_feature @ left
            best = int(gain.argmax())
            gained, used = gained + float(gain[best]), used + 1
            left[by_feature.indices[by_feature.indptr[best] : by_feature.indptr[best + 1]]] = 0
        needed[fact] = used
    return Parts(needed, reached)


def correlations(one: csr_array, other: csr_array, weight: np.ndarray) -> np.ndarray:
    """(f, g) correlations over rows of features (n, f) and (n, g); 0 where one of them does not vary."""
    total = float(weight.sum())
    moments = []
    for values in (one, other):
        mean = values.T @ weight / total
        square = values.multiply(values).T @ weight / total
        moments.append((mean, np.sqrt(np.maximum(square - mean**2, 0))))
    (mean, deviation), (mean_2, deviation_2) = moments
    weighted = csr_array(other.multiply(weight[:, None]))
    together = (one.T @ weighted).toarray() / total - np.outer(mean, mean_2)
    scale = np.outer(deviation, deviation_2)
    return np.where(scale > 1e-12, together / np.maximum(scale, 1e-12), 0.0)


def duplicates(values: csr_array, weight: np.ndarray, alike: float) -> float:
    """Share of the features that vary of which another one is a copy: correlated at least so."""
    r = correlations(values, values, weight)
    live = np.diag(r) > 0.5
    np.fill_diagonal(r, 0)
    return float((r.max(1)[live] >= alike).mean()) if live.any() else float("nan")


def agreement(one: csr_array, other: csr_array, weight: np.ndarray) -> np.ndarray:
    """(f,) largest correlation of each feature of the first with one of the other; NaN: it is constant."""
    r = correlations(one, other, weight)
    live = np.diag(correlations(one, one, weight)) > 0.5
    return np.where(live, r.max(1, initial=-1), np.nan)
