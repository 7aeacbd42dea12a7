"""Policies that need no model: chance, and the actions of demonstrations that failed.

The second give the least return that a model of the demonstrations can be asked for.
"""

from __future__ import annotations

import numpy as np

from dtx.dataset.episodes import Episodes, Outcome, Split
from dtx.dt.rollout import Played
from dtx.env.environment import Environment


class FailingPolicy:
    """Acts as failing demonstrations do: their actions' shares, given what a window of the episode shows.

    That is the current observation, and the episode's first one (in Memory: the instruction) as long as the
    window reaches back to it. A model of the demonstrations, asked for a return of 0, can do no better than
    act so; if its window is shorter than an episode, it forgets the instruction and is then right by chance.

    Args:
        episodes: The demonstrations; training episodes that earned nothing are counted.
        n_actions: Of the environment.
        context: Timesteps of a window.
    """

    def __init__(self, episodes: Episodes, n_actions: int, context: int):
        self.context, self.n_actions = context, n_actions
        self._known = {o.tobytes(): i for i, o in enumerate(np.asarray(episodes.observations))}
        failing = (np.asarray(episodes.split) == Split.TRAIN) & (episodes.returns <= 0)
        start, length = np.asarray(episodes.start)[failing], np.asarray(episodes.length)[failing]
        within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        row = np.repeat(start, length) + within
        first = np.repeat(np.asarray(episodes.observation)[start], length)
        here = np.asarray(episodes.observation)[row]
        # One table by first and current observation, one by the current alone, for what was never seen.
        size = len(self._known) + 1  # the last row: an observation that no demonstration has
        self._both = np.zeros((size, size, n_actions))
        np.add.at(self._both, (first, here, np.asarray(episodes.action)[row]), 1)
        self._alone = self._both.sum(0)

    def probabilities(self, first: np.ndarray, here: np.ndarray, step: int) -> np.ndarray:
        """Action probabilities (n, a) at a step.

        Args:
            first, here: (n,) the first and the current observation, as :meth:`index` gives them.
        """
        counts = self._alone[here]
        if step < self.context:
            both = self._both[first, here]
            counts = np.where(both.sum(1, keepdims=True) > 0, both, counts)
        unseen = counts.sum(1, keepdims=True) == 0
        counts = np.where(unseen, 1.0, counts)
        return counts / counts.sum(1, keepdims=True)

    def index(self, observations: np.ndarray) -> np.ndarray:
        """Rows of the tables of observations (n, 7, 7, 3)."""
        return np.array([self._known.get(o.tobytes(), len(self._known)) for o in observations])


def play(policy: FailingPolicy | None, env: Environment, episodes: int, seed: int) -> Played:
    """Episodes of the failing demonstrations' policy, or with None of chance: every action as probable.

    Args:
        episodes: How many. seed: Of worlds and actions.
    """
    vector, noise = env.vector(episodes, seed), np.random.default_rng(seed)
    observations = vector.reset()
    start = observations.copy()
    first = policy.index(start) if policy else None
    returns, length = np.zeros(episodes, np.float32), np.zeros(episodes, np.int64)
    outcome, playing = np.full(episodes, Outcome.TRUNCATED, np.uint8), np.ones(episodes, bool)
    step = 0
    while playing.any():
        if policy is None or first is None:
            actions = noise.integers(0, vector.n_actions, episodes)
        else:
            chances = policy.probabilities(first, policy.index(observations), step).cumsum(1)
            drawn = (chances <= noise.random(episodes)[:, None]).sum(1)
            actions = np.minimum(drawn, vector.n_actions - 1)
        result = vector.step(actions)
        returns[playing] += result.reward[playing]
        length[playing] += 1
        over = playing & result.terminated
        outcome[over] = np.where(result.reward[over] > 0, Outcome.SUCCESS, Outcome.WRONG)
        playing &= ~result.ended
        observations, step = result.observations, step + 1
    vector.close()
    return Played(np.zeros(episodes, np.float32), returns, length, outcome, start)
