"""What a vector environment offers, whichever backend runs it."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Backend(enum.Enum):
    """What runs many copies of an environment.

    ``auto``: envpool where it is installed and has the task, gymnasium otherwise. ``envpool``: C++,
    about 20 times as fast. ``gymnasium``: its vector environment over minigrid itself, the reference.
    """

    auto = "auto"
    envpool = "envpool"
    gymnasium = "gymnasium"


@dataclass(frozen=True, slots=True)
class Step:
    """What n environments answer to n actions.

    Where an episode ended, ``observations`` already holds the first of the next episode and
    ``final_observations`` the last of the ended one; elsewhere the two are equal.

    Attributes:
        observations: (n, 7, 7, 3) uint8.
        reward: (n,) float32.
        terminated: (n,) bool, the task ended the episode (also on the last allowed step).
        truncated: (n,) bool, the step limit did; never together with ``terminated``.
        final_observations: (n, 7, 7, 3) uint8.
    """

    observations: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    final_observations: np.ndarray

    @property
    def ended(self) -> np.ndarray:
        """(n,) bool, the episode ended in either way."""
        return self.terminated | self.truncated


class VectorEnv(Protocol):
    """n copies of an environment that start their next episode by themselves.

    Observations are MiniGrid's index encoding, (n, 7, 7, 3) uint8 with axes (column x, row y,
    [object, colour, state]) of the agent's view. Everything follows from the seed and the actions.
    """

    n: int
    n_actions: int
    horizon: int

    def reset(self) -> np.ndarray:
        """Begin a new episode everywhere and return its first observations."""
        ...

    def step(self, actions: np.ndarray) -> Step:
        """Act once everywhere; ``actions`` is (n,) of any integer type."""
        ...

    def close(self) -> None:
        """Free the environments."""
        ...


class Stacked:
    """Several vector environments as one: copies of the same worlds under different policies, say.

    Args:
        parts: Of the same actions and horizon, at least one.
    """

    def __init__(self, parts: Sequence[VectorEnv]):
        self.parts = list(parts)
        self.n = sum(part.n for part in parts)
        self.n_actions, self.horizon = parts[0].n_actions, parts[0].horizon
        self._cuts = np.cumsum([part.n for part in parts])[:-1]

    def reset(self) -> np.ndarray:
        """Begin a new episode everywhere."""
        return np.concatenate([part.reset() for part in self.parts])

    def step(self, actions: np.ndarray) -> Step:
        """Act once everywhere."""
        split = np.split(actions, self._cuts)
        steps = [part.step(mine) for part, mine in zip(self.parts, split, strict=True)]
        return Step(*(np.concatenate([getattr(s, name) for s in steps]) for name in Step.__slots__))

    def close(self) -> None:
        """Free the environments."""
        for part in self.parts:
            part.close()


def seeds(seed: int, n: int) -> list[int]:
    """n seeds below 2**31 from one, spread so that neighbouring seeds share no environment."""
    return [int(s) >> 1 for s in np.random.SeedSequence(seed).generate_state(n)]
