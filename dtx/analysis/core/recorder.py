"""The actions of episodes that are played, and whether the agent faces back at some time."""

from __future__ import annotations

import numpy as np

from dtx.env.actions import Action
from dtx.env.vector import Step, VectorEnv

BACK = 2
"""Direction opposite to the start's, in quarter turns."""


class Recorder:
    """A vector environment that remembers the actions."""

    def __init__(self, env: VectorEnv):
        self.env, self.n, self.n_actions, self.horizon = env, env.n, env.n_actions, env.horizon
        self.actions: list[np.ndarray] = []

    def reset(self) -> np.ndarray:
        """Begin a new episode everywhere."""
        self.actions = []
        return self.env.reset()

    def step(self, actions: np.ndarray) -> Step:
        """Act once everywhere."""
        self.actions.append(np.array(actions))
        return self.env.step(actions)

    def close(self) -> None:
        """Free the environments."""
        self.env.close()


def looks_back(actions: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Whether an episode (n, t) faces opposite to its start at some time before it ends, (n,) bool."""
    turns = (actions == Action.right.number).astype(int) - (actions == Action.left.number)
    facing = turns.cumsum(1) % 4
    return ((facing == BACK) & (np.arange(actions.shape[1]) < length[:, None])).any(1)
