"""Vector environments on gymnasium's SyncVectorEnv over minigrid: the reference, for every task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from dtx.env.roles import world_of
from dtx.env.vector import Step, seeds

if TYPE_CHECKING:
    from minigrid.minigrid_env import MiniGridEnv


class Image(gymnasium.ObservationWrapper):
    """Only the view's index encoding: the direction and the mission's text are left out."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        assert isinstance(env.observation_space, gymnasium.spaces.Dict)
        self.observation_space = env.observation_space["image"]

    def observation(self, observation: dict) -> np.ndarray:
        """Keep the image."""
        return observation["image"]


class Gymnasium:
    """n environments of gymnasium; see :class:`dtx.env.vector.VectorEnv`.

    Args:
        makers: One function for each environment.
        seed: Everything follows from it and the actions.
        horizon: Steps allowed in an episode, which the environments apply themselves.
    """

    def __init__(self, makers: Sequence[Callable[[], gymnasium.Env]], seed: int, horizon: int):
        self.n, self.horizon = len(makers), horizon
        self._envs = SyncVectorEnv(
            [lambda make=make: Image(make()) for make in makers],
            autoreset_mode=AutoresetMode.SAME_STEP,
        )
        assert isinstance(self._envs.single_action_space, gymnasium.spaces.Discrete)
        self.n_actions = int(self._envs.single_action_space.n)
        self._seeds: list[int | None] | None = [*seeds(seed, self.n)]

    def reset(self) -> np.ndarray:
        """Begin a new episode everywhere and return its first observations."""
        observations, _ = self._envs.reset(seed=self._seeds)
        self._seeds = None  # seeded once: a second reset goes on with other episodes
        return observations

    def step(self, actions: np.ndarray) -> Step:
        """Act once everywhere."""
        observations, reward, terminated, truncated, info = self._envs.step(np.asarray(actions))
        final = observations
        if "final_obs" in info:
            ended = np.flatnonzero(info["_final_obs"])
            final = observations.copy()
            final[ended] = np.stack(info["final_obs"][ended])
        # minigrid sets both on the last allowed step; what the task decided counts.
        return Step(
            observations, reward.astype(np.float32), terminated, truncated & ~terminated, final
        )

    @property
    def worlds(self) -> list[MiniGridEnv]:
        """The worlds as they are now, n; where an episode ended, that of the next one."""
        return [world_of(env) for env in self._envs.envs]

    def close(self) -> None:
        """Free the environments."""
        self._envs.close()
