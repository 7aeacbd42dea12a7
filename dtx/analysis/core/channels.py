"""Channels of observations: their names, and which of them demonstrations train."""

from __future__ import annotations

import numpy as np

from dtx.dataset.episodes import Episodes
from dtx.env.encoding import CHANNELS, OFFSETS, SIZE, VIEW, flatten, one_hot


def occurring(episodes: Episodes) -> np.ndarray:
    """Numbers of the channels that some observations have and some have not; others are never trained."""
    return occurring_in(episodes.observations)


def occurring_in(observations: np.ndarray) -> np.ndarray:
    """The same of observations (u, 7, 7, 3)."""
    seen = flatten(one_hot(observations)).astype(bool)
    return np.flatnonzero(seen.any(0) & ~seen.all(0))


def cell_names() -> list[str]:
    """Names of the entries of a flattened observation, ``key (2,6)``: object, colour or state, and cell."""
    cells = VIEW * VIEW
    return [f"{channel_name(i // cells)} ({i % cells // VIEW},{i % VIEW})" for i in range(SIZE)]


def channel_names() -> list[str]:
    """All channels by number."""
    return [channel_name(channel) for channel in range(CHANNELS)]


def channel_name(channel: int) -> str:
    """MiniGrid's name of one of the 20 channels."""
    from minigrid.core.constants import IDX_TO_COLOR, IDX_TO_OBJECT

    if channel < OFFSETS[1]:
        return IDX_TO_OBJECT[channel]
    if channel < OFFSETS[2]:
        return IDX_TO_COLOR[channel - OFFSETS[1]]
    return ("open", "closed", "locked")[channel - OFFSETS[2]]
