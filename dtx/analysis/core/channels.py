"""Channels of flattened observations that demonstrations train."""

from __future__ import annotations

import numpy as np

from dtx.dataset.episodes import Episodes
from dtx.env.encoding import flatten, one_hot


def occurring(episodes: Episodes) -> np.ndarray:
    """Numbers of the channels that some observations have and some have not; others are never trained."""
    seen = flatten(one_hot(episodes.observations)).astype(bool)
    return np.flatnonzero(seen.any(0) & ~seen.all(0))
