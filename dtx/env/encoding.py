"""Observations as numbers: MiniGrid's index encoding to one-hot, and the order of its 980 entries.

Axes: x, y cell of the agent's 7x7 view (x column, y row; the agent stands at x=3, y=6) · k kind of
index (object, colour, state) · c channel of the one-hot (11 objects, 6 colours, 3 states).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

VIEW = 7
"""Cells along a side of the agent's view."""
OBJECTS, COLOURS, STATES = 11, 6, 3
CHANNELS = OBJECTS + COLOURS + STATES
"""20: MiniGrid's object, colour and door-state indices side by side."""
LARGEST = max(OBJECTS, COLOURS, STATES) - 1
"""10: the largest index in an observation."""
OFFSETS = (0, OBJECTS, OBJECTS + COLOURS)
"""First channel of each kind of index."""
SIZE = CHANNELS * VIEW * VIEW
"""980: length of a flattened one-hot observation."""
ACTIVE = 3 * VIEW * VIEW
"""147: how many of the 980 are one."""


def channels(observations: np.ndarray) -> np.ndarray:
    """Channel of each index, (..., 7, 7, 3) uint8 to (..., 7, 7, 3) uint8 in 0..19.

    Raises:
        ValueError: An index is outside MiniGrid's 11 objects, 6 colours and 3 states.
    """
    limits = np.array([OBJECTS, COLOURS, STATES])
    if (observations.reshape(-1, 3).max(axis=0, initial=0) >= limits).any():
        raise ValueError("an observation holds an index beyond 11 objects, 6 colours, 3 states")
    return observations + np.array(OFFSETS, dtype=np.uint8)


def one_hot(observations: np.ndarray) -> np.ndarray:
    """One-hot encode observations, (..., 7, 7, 3) uint8 to (..., 7, 7, 20) uint8."""
    encoded = np.zeros((*observations.shape[:-1], CHANNELS), dtype=np.uint8)
    np.put_along_axis(encoded, channels(observations).astype(np.intp), 1, axis=-1)
    return encoded


def flatten(encoded: np.ndarray) -> np.ndarray:
    """Flatten one-hots channel-major, (..., 7, 7, 20) to (..., 980): index = c*49 + x*7 + y.

    This is the order of the published MemoryDT checkpoints.
    """
    return np.moveaxis(encoded, -1, -3).reshape(*encoded.shape[:-3], SIZE)


def active_indices(observations: torch.Tensor) -> torch.Tensor:
    """Which of the 980 entries are one, (n, 7, 7, 3) uint8 to (n, 147) int64.

    A linear layer on the one-hot is the sum of these 147 of its 980 columns.
    """
    import torch

    cell = torch.arange(VIEW * VIEW, device=observations.device).unsqueeze(1)
    first = torch.tensor(OFFSETS, device=observations.device) * (VIEW * VIEW)
    return observations.flatten(1).long() * (VIEW * VIEW) + (cell + first).flatten()


def flat_one_hot(observations: torch.Tensor) -> torch.Tensor:
    """One-hot in torch, (n, 7, 7, 3) uint8 to (n, 980) float32, in the order of :func:`flatten`."""
    import torch

    flat = torch.zeros(len(observations), SIZE, device=observations.device)
    return flat.scatter_(1, active_indices(observations), 1.0)


def distinct(observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct observations and which of them each one is.

    Args:
        observations: (n, 7, 7, 3) uint8.

    Returns:
        (u, 7, 7, 3) in a fixed order, and (n,) int64 with ``distinct[index] == observations``.
    """
    rows = np.ascontiguousarray(observations).reshape(len(observations), -1)
    # A row's bytes as one opaque value sort far faster than np.unique(axis=0).
    whole = rows.view(np.dtype((np.void, rows.shape[1]))).ravel()
    _, first, index = np.unique(whole, return_index=True, return_inverse=True)
    return observations[first], index.astype(np.int64)
