"""How unusual observations look: in how many cells they differ from the nearest in the training data."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from dtx.dataset.episodes import Episodes


def training_observations(episodes: Episodes) -> np.ndarray:
    """(u, 7, 7, 3) uint8: the distinct observations of the training episodes."""
    training = np.repeat(np.asarray(episodes.split) == 0, np.asarray(episodes.length))
    return episodes.observations[np.unique(np.asarray(episodes.observation)[training])]


def distances(seen: np.ndarray, known: np.ndarray) -> np.ndarray:
    """For each state, in how many cells it differs from the nearest known observation.

    Args:
        seen: (t, 7, 7, 3) uint8.
        known: (u, 7, 7, 3) uint8.

    Returns:
        (t,) int64; 49 where none is known.
    """
    found: dict[bytes, int] = {}
    for state in seen:
        if (mark := state.tobytes()) not in found:
            differs = (known != state).any(-1).sum((1, 2))
            found[mark] = int(differs.min(initial=49))
    return np.array([found[state.tobytes()] for state in seen], np.int64)


def nearest(seen: Sequence[np.ndarray], known: np.ndarray) -> list[int]:
    """For each run (t, 7, 7, 3), the largest of :func:`distances` over its states."""
    ends = np.cumsum([0, *map(len, seen)])
    cells = distances(np.concatenate(seen), known)
    return [int(cells[a:b].max()) for a, b in itertools.pairwise(ends)]
