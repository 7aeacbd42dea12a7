"""T4, a negative: a Decision Transformer whose reward-to-go is another episode's, so that it says nothing.

The same windows in the same order, the same architecture and recipe; what an analysis finds on
reward-to-go here is what it finds by chance.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dtx.dt.decision_transformer import DecisionTransformer

if TYPE_CHECKING:
    from dtx.dataset.episodes import Episodes

_STREAM = 2**62
"""Added to the seed, so that these random numbers are not those of weights or windows."""


@dataclass(frozen=True, kw_only=True)
class ShuffledRewardToGo(DecisionTransformer):
    """:class:`DecisionTransformer` on :func:`shuffled` demonstrations; its fields are the same."""

    def demonstrations(self) -> Episodes:
        """The dataset's episodes, each with the return of another."""
        return shuffled(super().demonstrations(), self.seed)

    def summary(self) -> str:
        """As of every model, and that it is a negative."""
        return (
            super()
            .summary()
            .replace("with reward-to-go", "with reward-to-go shuffled over episodes", 1)
        )


def shuffled(episodes: Episodes, seed: int) -> Episodes:
    """Deal the returns out anew among the episodes of each split, paid at the last step.

    Observations, actions, lengths, outcomes and splits stay, and so does the distribution of returns.

    Args:
        seed: Of the permutation.
    """
    returns, split = episodes.returns, np.asarray(episodes.split)
    dealt = returns.copy()
    rng = np.random.Generator(np.random.Philox(key=np.array([seed + _STREAM, 0], np.uint64)))
    for part in np.unique(split):
        rows = np.flatnonzero(split == part)
        dealt[rows] = returns[rng.permutation(rows)]
    reward = np.zeros_like(np.asarray(episodes.reward))
    reward[np.asarray(episodes.start) + np.asarray(episodes.length) - 1] = dealt
    return dataclasses.replace(episodes, reward=reward)
