"""Where features come from: dictionaries, those of untrained networks, and controls made here.

Letters: n rows, f features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dtx.analysis.labels.spec import PER_VIEW, SHUFFLED
from dtx.dictionary.sparse import width_of

if TYPE_CHECKING:
    from scipy.sparse import csc_matrix


@dataclass(frozen=True)
class Source:
    """Features at the rows that are looked at.

    Attributes:
        kind: One of the sources of :mod:`dtx.analysis.labels.spec`.
        name: Of the dictionary; of a control, that of the dictionary that it is made like.
        seed: Of the dictionary, of the untrained network, or of the control.
        active: (n, f) by column; entries above 0 are on.
    """

    kind: str
    name: str
    seed: int
    active: csc_matrix

    def on(self, feature: int) -> np.ndarray:
        """(p,) the rows at which a feature is on, ascending."""
        return on_rows(self.active, feature)


def on_rows(active: csc_matrix, feature: int) -> np.ndarray:
    """(p,) the rows at which a column of a sparse matrix is above 0, ascending."""
    begin, end = active.indptr[feature : feature + 2]
    return np.sort(active.indices[begin:end][active.data[begin:end] > 0])


def shuffled(of: Source, seed: int) -> Source:
    """The same activations at other rows: no fact has anything to do with them."""
    order = np.random.default_rng(seed).permutation(of.active.getnnz(axis=1).size)
    return Source(SHUFFLED, of.name, seed, of.active[order].tocsc())


def per_view(of: Source, group: np.ndarray, weight: np.ndarray, seed: int) -> Source:
    """A feature that is on at random views, as often as each feature of a source.

    Args:
        of: The source. group: (n,) view and kind of token of each row. weight: (n,) how often it occurs.
        seed: Of the views.
    """
    from scipy.sparse import csc_matrix

    rng = np.random.default_rng(seed)
    share_g = np.bincount(group, weight) / weight.sum()
    columns, width = [], width_of(of.active)
    for feature in range(width):
        on = of.on(feature)
        wanted = weight[on].sum() / weight.sum()
        order = rng.permutation(len(share_g))
        reached = np.cumsum(share_g[order])
        # The first views whose share comes nearest to the wanted one, at least one of them.
        count = int(np.abs(reached - wanted).argmin()) + 1 if len(on) else 0
        chosen_g = np.zeros(len(share_g), bool)
        chosen_g[order[:count]] = True
        columns.append(np.flatnonzero(chosen_g[group]))
    indptr = np.cumsum([0, *map(len, columns)])
    indices = np.concatenate(columns) if columns else np.zeros(0, int)
    values = np.ones(len(indices), np.float32)
    active = csc_matrix((values, indices, indptr), shape=(len(group), width))
    return Source(PER_VIEW, of.name, seed, active)
