"""Episodes of a model with and without a dictionary, on the same worlds and random numbers.

Letters: r targets, e episodes, t steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np

from dtx.analysis.dictionaries.spec import DictionariesSpec
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.rollout import Place, Played, rollouts
from dtx.env.vector import Step, VectorEnv


@dataclass(frozen=True)
class Play:
    """Episodes at every target.

    Attributes:
        returns_re: (r, e) float64. outcome_re: (r, e) uint8. length_re: (r, e).
    """

    returns_re: np.ndarray
    outcome_re: np.ndarray
    length_re: np.ndarray

    @staticmethod
    def of(played: Sequence[Played]) -> Play:
        """Of what rollouts give."""
        return Play(
            np.stack([p.returns for p in played]).astype(float),
            np.stack([p.outcome for p in played]),
            np.stack([p.length for p in played]),
        )


def play(
    spec: DictionariesSpec,
    model: DecisionTransformerModel,
    env: Place,
    episodes: int,
    edit: AbstractContextManager[None] | None = None,
) -> Play:
    """Sampled episodes at every target, with an edit in place or none."""
    with edit or nullcontext():
        return Play.of(
            rollouts(
                model,
                env,
                spec.targets,
                episodes=episodes,
                seed=spec.seed,
                temperature=spec.temperature,
            )
        )


@dataclass
class Watched:
    """An environment that keeps what is done in it.

    Attributes:
        env: In which is played.
        actions: (t, n) of every vector of copies that was made, in order; 0 where the episode is over.
    """

    env: Place
    actions: list[list[np.ndarray]] = field(default_factory=list)

    @property
    def horizon(self) -> int:
        """Steps allowed in an episode."""
        return self.env.horizon

    def vector(self, n: int, seed: int) -> VectorEnv:
        """n copies."""
        self.actions.append([])
        return _WatchedVector(self.env.vector(n, seed), self.actions[-1])


class _WatchedVector:
    """A :class:`dtx.env.vector.VectorEnv` that notes actions."""

    def __init__(self, inner: VectorEnv, actions: list[np.ndarray]):
        self._inner, self._actions = inner, actions
        self.n, self.n_actions, self.horizon = inner.n, inner.n_actions, inner.horizon

    def reset(self) -> np.ndarray:
        """Begin a new episode everywhere."""
        return self._inner.reset()

    def step(self, actions: np.ndarray) -> Step:
        """Act once everywhere."""
        self._actions.append(np.array(actions))
        return self._inner.step(actions)

    def close(self) -> None:
        """Free the environments."""
        self._inner.close()


def differing(
    spec: DictionariesSpec,
    model: DecisionTransformerModel,
    env: Place,
    episodes: int,
    one: AbstractContextManager[None] | None,
    other: AbstractContextManager[None] | None,
) -> float:
    """Share of episodes in which two edits of a model do not act alike, action for action."""
    plays, acted = [], []
    for edit in (one, other):
        watched = Watched(env)
        plays.append(play(spec, model, watched, episodes, edit))
        acted.append([_padded(of, episodes, env.horizon) for of in watched.actions])
    apart = np.stack(acted[0]) != np.stack(acted[1])  # (vectors, t, e)
    first, second = plays
    ended = (first.length_re != second.length_re) | (first.returns_re != second.returns_re)
    return float((apart.any((0, 1)) | ended.any(0)).mean())


def _padded(actions: list[np.ndarray], n: int, horizon: int) -> np.ndarray:
    """Actions (horizon, n), 0 after the last episode of all is over, as after each."""
    padded = np.zeros((horizon, n), np.int64)
    padded[: len(actions)] = np.stack(actions)
    return padded
