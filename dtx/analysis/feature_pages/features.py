"""Numbers of each feature: histogram, kinds of tokens, place in the episode, nearest features elsewhere.

Letters: n rows, f features, g features of another dictionary, k kinds of tokens, t parts of an episode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dtx.analysis.feature_pages.spec import BINS, RANDOM, STRONGEST, TIMES
from dtx.dictionary.sparse import width_of
from dtx.dt.tokens import KINDS

if TYPE_CHECKING:
    from scipy.sparse import csc_matrix

TOGETHER = 1024
"""Features whose correlations are in memory at once."""


@dataclass(frozen=True)
class Profile:
    """Numbers of all features.

    Attributes:
        density_f: Share of tokens at which each is on. largest_f, mean_f: Of its activation where it is on.
        histogram_fb: Tokens by activation, from 0 to the largest, of those at which it is on.
        kind_fk: Shares of the tokens at which it is on by kind; time_ft: by part of the longest episode.
    """

    density_f: np.ndarray
    largest_f: np.ndarray
    mean_f: np.ndarray
    histogram_fb: np.ndarray
    kind_fk: np.ndarray
    time_ft: np.ndarray

    @property
    def live(self) -> np.ndarray:
        """Numbers of the features that are on anywhere."""
        return np.flatnonzero(self.density_f > 0)


def profile(active: csc_matrix, columns: Mapping[str, np.ndarray]) -> Profile:
    """Describe every feature of a dictionary.

    Args:
        active: (n, f), what is on. columns: Of the stored tokens at these rows.
    """
    width = width_of(active)
    feature = np.repeat(np.arange(width), np.diff(active.indptr))
    on = active.data > 0
    feature, row, value = feature[on], active.indices[on], active.data[on].astype(np.float64)
    weight = columns["count"].astype(np.float64)
    given = weight[row]
    count_f = np.bincount(feature, given, width)
    largest_f = np.zeros(width)
    np.maximum.at(largest_f, feature, value)
    bins = np.minimum((value / np.maximum(largest_f[feature], 1e-300) * BINS).astype(int), BINS - 1)
    longest = int(columns["step"].max(initial=0)) + 1
    part = columns["step"][row].astype(np.int64) * TIMES // longest

    def by(code: np.ndarray, number: int) -> np.ndarray:
        flat = np.bincount(feature * number + code, given, width * number)
        return flat.reshape(width, number)

    safe = np.maximum(count_f, 1e-300)
    return Profile(
        density_f=count_f / weight.sum(),
        largest_f=largest_f,
        mean_f=np.bincount(feature, value * given, width) / safe,
        histogram_fb=by(bins, BINS),
        kind_fk=by(columns["kind"][row].astype(int), len(KINDS)) / safe[:, None],
        time_ft=by(part, TIMES) / safe[:, None],
    )


def examples(
    active: csc_matrix, features: np.ndarray, alike: np.ndarray, weight: np.ndarray,
    count: int, seed: int,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Which tokens are drawn of each feature: columns ``feature, set, place, row, activation``.

    Args:
        active: (n, f). features: Those that are shown.
        alike: (n,) numbers of what is drawn: of tokens that would be drawn alike the strongest is taken, so
            that six pictures show six things.
        weight: (n,) how often each occurs: random tokens are drawn by it.
        count: Of each kind. seed: Of the random ones.

    Returns:
        Row is the place among the n rows.
    """
    rng = np.random.default_rng(seed)
    lines: list[tuple[int, str, int, int, float]] = []
    for feature in features.tolist():
        part = slice(*active.indptr[feature : feature + 2])
        row = np.asarray(active.indices[part])
        value = np.asarray(active.data[part], np.float64)
        row, value = row[value > 0], value[value > 0]
        order = np.lexsort((row, np.negative(value)))
        first = np.sort(np.unique(alike[row[order]], return_index=True)[1])[:count]
        shown = {STRONGEST: order[first]}
        share = weight[row] / weight[row].sum()
        shown[RANDOM] = rng.choice(len(row), min(count, len(row)), replace=False, p=share)
        for name, which in shown.items():
            lines += [
                (feature, name, place, int(row[i]), float(value[i]))
                for place, i in enumerate(which, 1)
            ]
    names = ("feature", "set", "place", "row", "activation")
    columns = zip(*lines, strict=True) if lines else ((),) * len(names)
    return dict(zip(names, map(np.array, columns), strict=True))


def nearest(
    own: csc_matrix, other: csc_matrix, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For each feature the one of another dictionary whose activations correlate most.

    Args:
        own: (n, f). other: (n, g), at the same rows. weight: (n,) how often each occurs.

    Returns:
        Its number (f,), -1 where nothing correlates; and the correlation (f,), NaN there.
    """
    share = weight / weight.sum()
    own64, other64 = own.astype(np.float64), other.astype(np.float64)
    mean_f, spread_f = _moments(own64, share)
    mean_g, spread_g = _moments(other64, share)
    weighted_gn = other64.multiply(share[:, None]).tocsc().T.tocsr()
    width = width_of(own)
    best_f, r_f = np.full(width, -1), np.full(width, np.nan)
    for begin in range(0, width, TOGETHER):
        part = slice(begin, begin + TOGETHER)
        both_gf = (weighted_gn @ own64[:, part]).toarray() - np.outer(mean_g, mean_f[part])
        with np.errstate(divide="ignore", invalid="ignore"):
            r_gf = both_gf / np.outer(spread_g, spread_f[part])
        r_gf = np.nan_to_num(r_gf, nan=-2.0, posinf=-2.0, neginf=-2.0)
        found = r_gf.argmax(0)
        r = r_gf[found, np.arange(r_gf.shape[1])]
        best_f[part] = np.where(r > -2, found, -1)
        r_f[part] = np.where(r > -2, r, np.nan)
    return best_f, r_f


def _moments(x: csc_matrix, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and standard deviation of each column."""
    mean = np.asarray(x.T @ share).reshape(-1)
    square = np.asarray(x.multiply(x).T @ share).reshape(-1)
    return mean, np.sqrt(np.maximum(square - mean**2, 0))
