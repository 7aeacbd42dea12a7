"""What tokens look like: the agent's view, and the world drawn from its recorded facts.

Letters: n tokens, v views, w worlds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import numpy as np

from dtx.dataset.dataset import Dataset
from dtx.dataset.episodes import Episodes
from dtx.dataset.facts import Facts
from dtx.env.actions import Action
from dtx.env.facts import put
from dtx.dt.tokens import ACTION, KINDS
from dtx.env.roles import world_of
from dtx.errors import UserError
from dtx.pairs.runs import picture

NO_WORLD = -1
"""Of a token whose world is not known."""


class Looks:
    """Draws tokens of stored activations.

    Args:
        dataset: The demonstrations. columns: Of the stored tokens.

    Attributes:
        worlds_known: Whether the worlds can be drawn: facts were recorded, or the episodes can be replayed.
    """

    def __init__(self, dataset: Dataset, columns: Mapping[str, np.ndarray]):
        self.episodes: Episodes = dataset.load()
        self._env = dataset.environment
        start = np.asarray(self.episodes.start)
        self.step = start[columns["episode"]] + columns["step"]
        self.kind = columns["kind"]
        self._facts: Facts | None = None
        with contextlib.suppress(UserError):  # no facts: views alone are drawn
            self._facts = dataset.load_facts()
        self.worlds_known = self._facts is not None

    def alike(self) -> np.ndarray:
        """(n,) numbers: tokens of one kind, world and view look alike."""
        world = self.episodes.observation if self._facts is None else self._facts.state
        both = world[self.step].astype(np.int64) * len(KINDS) + self.kind
        return np.unique(both, return_inverse=True)[1].reshape(-1)

    def described(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of some tokens, by their rows: episode step, reward-to-go, action (of A tokens)."""
        step = self.step[rows]
        actions = np.array([action.value for action in Action])
        taken = actions[self.episodes.action[step].astype(int)]
        return {
            "kind": np.array(KINDS)[self.kind[rows]],
            "reward_to_go": self.episodes.reward_to_go[step].astype(float),
            "action": np.where(self.kind[rows] == KINDS.index(ACTION), taken, ""),
        }

    def drawn(self, rows: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """What some tokens look like, each view and world once.

        Returns:
            ``view``, ``world`` (n,) places in the arrays, world :data:`NO_WORLD` where it is not known; and
            the arrays ``views`` (v, 7, 7, 3) observations, ``worlds`` (w, height, width, 3) pictures, uint8.
        """
        step = self.step[rows]
        seen, view = np.unique(self.episodes.observation[step], return_inverse=True)
        views = np.asarray(self.episodes.observations[seen])
        if self._facts is None or self._env is None:
            world = np.full(len(rows), NO_WORLD)
            pictures = np.zeros((0, 0, 0, 3), np.uint8)
        else:
            states, world = np.unique(self._facts.state[step], return_inverse=True)
            pictures = self._pictures(states)
        return (
            {"view": view.reshape(-1), "world": world.reshape(-1)},
            {"views": views, "worlds": pictures},
        )

    def _pictures(self, states: np.ndarray) -> np.ndarray:
        """Those of distinct states of the demonstrations, by minigrid, what the agent sees highlighted."""
        assert self._facts is not None and self._env is not None
        made = self._env.make()
        made.reset(seed=0)
        world, pictures = world_of(made), []
        for state in states.tolist():
            put(world, self._facts.states, state)
            pictures.append(picture(world))
        made.close()
        height, width = np.array([p.shape[:2] for p in pictures]).reshape(-1, 2).max(0, initial=0)
        stacked = np.zeros((len(pictures), height, width, 3), np.uint8)
        for i, drawn in enumerate(
            pictures
        ):  # worlds of several sizes: smaller ones are at the top left
            stacked[i, : drawn.shape[0], : drawn.shape[1]] = drawn
        return stacked
