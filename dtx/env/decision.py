"""What an environment tells about its decision: the step where different layouts ask for different turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from dtx.env.vector import VectorEnv

if TYPE_CHECKING:
    import gymnasium


class Decision(Protocol):
    """A task whose worlds are a few *layouts* with a scripted way (the *routine*) to one deciding turn.

    ``env.decision`` is one of these, or None; dtx/env/memory.py is an example.
    """

    @property
    def layouts(self) -> tuple[str, ...]:
        """Names of the layouts; a layout's index is its place here."""
        ...

    @property
    def step(self) -> int:
        """Actions of the routine before its turn, the same in every layout."""
        ...

    def routine(self, layout: int) -> list[int]:
        """The actions of the shortest way to success."""
        ...

    def turns(self, layouts: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The right and the wrong action at the decision, by layout index: two arrays (n,) of int64."""
        ...

    def here(self, observations: np.ndarray) -> np.ndarray:
        """Whether the agent stands where it decides: (..., 7, 7, 3) uint8 to (...) bool."""
        ...

    def layout_of(self, first: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Layout index (...) from an episode's first observation and one where :meth:`here` holds."""
        ...

    def make(self, layout: int) -> gymnasium.Env:
        """One environment of minigrid itself that plays one layout."""
        ...

    def vector(self, layouts: Sequence[int], seed: int) -> VectorEnv:
        """One copy a layout index, which plays nothing else."""
        ...
