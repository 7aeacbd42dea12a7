"""What is kept of episodes while they are played: what is seen and done, and where the worlds stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from dtx.dataset.episodes import EpisodeWriter
from dtx.env.environment import Environment
from dtx.env.facts import StateTable
from dtx.env.vector import Step, VectorEnv

Poses = Callable[[], Mapping[str, np.ndarray]]
"""Gives the worlds' states now, the columns of ``poses.arrow``, (n,) each; none where no facts are kept."""


def copies(
    env: Environment, n: int, seed: int, worlds: StateTable | None
) -> tuple[VectorEnv, Poses]:
    """n copies of an environment, and their worlds' states.

    Only minigrid's own worlds can be looked into, so with facts they run on gymnasium whatever the backend.

    Args:
        env: Of which.
        n: How many.
        seed: Of the worlds.
        worlds: Numbers the grids; None: no facts are recorded.
    """
    if worlds is None:
        return env.vector(n, seed), dict
    from dtx.env.gymnasium_backend import Gymnasium

    posed = Gymnasium([env.make] * n, seed, env.horizon)
    return posed, lambda: worlds.read(posed.worlds)


class Recording:
    """A vector environment that keeps the first episode of each copy; a :class:`dtx.env.vector.VectorEnv`.

    Attributes:
        steps: The writer's columns of steps, (n, horizon) each; behind an episode's end they mean nothing.
    """

    def __init__(self, env: VectorEnv, poses: Poses, writer: EpisodeWriter):
        self._env, self._poses, self._writer = env, poses, writer
        self.n, self.n_actions, self.horizon = env.n, env.n_actions, env.horizon
        self.steps = {k: np.zeros((env.n, env.horizon), kind) for k, kind in writer.types.items()}
        self._time, self._seen = 0, np.zeros(0, np.uint8)

    def reset(self) -> np.ndarray:
        """Begin a new episode everywhere."""
        self._time, self._seen = 0, self._env.reset()
        return self._seen

    def step(self, actions: np.ndarray) -> Step:
        """Act once everywhere."""
        now = {"observation": self._writer.identify(self._seen), "action": actions, **self._poses()}
        result = self._env.step(actions)
        for name, column in {**now, "reward": result.reward}.items():
            self.steps[name][:, self._time] = column
        self._time, self._seen = self._time + 1, result.observations
        return result

    def close(self) -> None:
        """Free the environments."""
        self._env.close()
