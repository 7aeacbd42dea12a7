"""Vector environments on envpool: MiniGrid's tasks in C++.

Compared with minigrid step by step (tests/env/test_vector.py), envpool gives the same observations
and rewards and differs in three ways, mended here:

* The step that ends an episode on the last allowed step is only ``truncated`` there. So envpool is
  given one step more than allowed, and the limit and the reward's scale are applied here.
* It starts the next episode one call later. So ended environments are reset at once.
* Its Memory draws the start anywhere along the corridor and ignores ``agent_start_pos``. So a copy
  is reset again until it drew the wanted start; what is drawn besides stays independent of that.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections import deque
from importlib.machinery import PathFinder
from types import ModuleType

import numpy as np

from dtx.env.vector import Step, seeds


class EnvPool:
    """n environments of one envpool task; see :class:`dtx.env.vector.VectorEnv`.

    Args:
        task: envpool's name of the task, ``MiniGrid-MemoryS7-v0``.
        n: How many.
        seed: Everything follows from it and the actions.
        horizon: Steps allowed in an episode.
        start: (x, y) where every episode is to start, or None for the task's own starts.
        n_actions: Actions of the task as MiniGrid has it.
    """

    def __init__(
        self,
        task: str,
        n: int,
        seed: int,
        horizon: int,
        start: tuple[int, int] | None = None,
        n_actions: int = 7,
    ):
        self.n, self.horizon, self.n_actions = n, horizon, n_actions
        self._start = None if start is None else np.array(start)
        # Resetting until the start fits takes about four draws. Copies that wait with the right start
        # make it one call a step for all of them instead of up to ten.
        total = n if start is None else 2 * n
        self._pool = _registry().make_gymnasium(
            task,
            num_envs=total,
            env_seed=seeds(seed, total),
            max_episode_steps=horizon + 1,
            num_threads=1,  # threads spin: more of them cost CPU time and gain nothing at this size
        )
        self._elapsed = np.zeros(n, dtype=np.int64)
        self._first = np.zeros((total, 7, 7, 3), dtype=np.uint8)
        self._ready: deque[int] = deque()
        self._waiting = np.arange(total, dtype=np.int32)
        self._playing = np.empty(0, dtype=np.int32)

    def reset(self) -> np.ndarray:
        """Begin a new episode everywhere and return its first observations."""
        self._waiting = np.concatenate([self._playing, self._waiting])
        self._playing = self._draw(self.n)
        self._elapsed[:] = 0
        return self._first[self._playing]

    def step(self, actions: np.ndarray) -> Step:
        """Act once everywhere."""
        answer, reward, terminated, _, _ = self._pool.step(
            np.asarray(actions, dtype=np.int32), self._playing
        )
        final = answer["image"]
        self._elapsed += 1
        reward = np.where(reward > 0, self._rescaled(reward), reward).astype(np.float32)
        truncated = ~terminated & (self._elapsed >= self.horizon)
        ended = np.flatnonzero(terminated | truncated)
        if not len(ended):
            return Step(final, reward, terminated, truncated, final)
        observations = final.copy()
        self._waiting = np.concatenate([self._waiting, self._playing[ended]])
        self._playing[ended] = self._draw(len(ended))
        self._elapsed[ended] = 0
        observations[ended] = self._first[self._playing[ended]]
        return Step(observations, reward, terminated, truncated, final)

    def close(self) -> None:
        """Free the environments."""
        self._pool.close()

    def _rescaled(self, reward: np.ndarray) -> np.ndarray:
        """MiniGrid's success reward, 1 - 0.9 t/limit, at this limit instead of one step more."""
        given = 1 - 0.9 * (self._elapsed / (self.horizon + 1))
        wanted = 1 - 0.9 * (self._elapsed / self.horizon)
        return np.where(np.abs(reward - given) < 1e-5, wanted, reward)

    def _draw(self, n: int) -> np.ndarray:
        """Take n copies that stand at the start of a new episode."""
        while True:
            if len(self._waiting):
                answer, info = self._pool.reset(self._waiting)
                self._first[self._waiting] = answer["image"]
                fits = np.ones(len(self._waiting), dtype=bool)
                if self._start is not None:
                    fits = (info["agent_pos"] == self._start).all(axis=1)
                self._ready.extend(self._waiting[fits].tolist())
                self._waiting = self._waiting[~fits]
            if len(self._ready) >= n:
                return np.array([self._ready.popleft() for _ in range(n)], dtype=np.int32)


def has(task: str) -> bool:
    """Whether envpool is installed and has the task."""
    try:
        return task in _registry().list_all_envs()
    except ImportError:
        return False


@functools.cache
def _registry() -> ModuleType:
    """envpool's registry with the tasks of MiniGrid alone.

    ``import envpool`` registers every suite of environments, and fails without 600 MB of files for robots and
    console games. So the package's own module is left out while these two of its parts are imported.

    Raises:
        ImportError: envpool is not installed.
    """
    name, before = "envpool", sys.modules.get("envpool")
    if before is None:
        spec = PathFinder.find_spec(name)
        if spec is None:
            raise ImportError("envpool is not installed")
        package = ModuleType(name)
        package.__path__ = list(spec.submodule_search_locations or ())
        sys.modules[name] = package
    try:
        importlib.import_module("envpool.minigrid.registration")
        return importlib.import_module("envpool.registration")
    finally:
        if before is None:  # `import envpool` elsewhere gives all of it
            del sys.modules[name]
