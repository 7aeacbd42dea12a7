"""Margins of features over what they must beat, with intervals over seeds and over groups of episodes.

Letters: s seeds of the dictionary, u untrained networks, m facts, c groups of episodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dtx.analysis.features.coverage import Scores, over_groups
from dtx.analysis.features.spec import RIVALS, TRAINED, UNTRAINED
from dtx.statistics import Estimate, mean_columns, mean_estimate, next_estimate

Scored = Mapping[tuple[str, int], Scores]
"""Scores of the facts by source and seed."""


@dataclass(frozen=True)
class Margins:
    """F1 of the model's features and of what they are held against, fact by fact.

    Attributes:
        f1: (s, m) by seed of the dictionary. untrained: (u, m) by network; -inf where none was scored.
        rivals: (4, m) of :data:`~dtx.analysis.features.spec.RIVALS`; several networks or seeds: their mean.
        influence: (c, m) of the mean over seeds. rivals_influence: (4, c, m).
    """

    f1: np.ndarray
    untrained: np.ndarray
    rivals: np.ndarray
    influence: np.ndarray
    rivals_influence: np.ndarray

    @staticmethod
    def of(scored: Scored, facts: slice) -> Margins:
        """Those of some of the facts that were scored."""
        named = {
            name: [s for (n, _), s in scored.items() if n == name] for name in (TRAINED, *RIVALS)
        }
        f1 = {k: np.stack([s.f1[facts] for s in of]) for k, of in named.items() if of}
        moves = {k: [s.influence[:, facts] for s in of] for k, of in named.items() if of}
        blank = np.full(f1[TRAINED].shape[1], np.nan)
        return Margins(
            f1=f1[TRAINED],
            untrained=f1.get(UNTRAINED, np.full((1, len(blank)), -np.inf)),
            rivals=np.stack([f1[r].mean(0) if r in f1 else blank for r in RIVALS]),
            influence=np.mean(moves[TRAINED], 0),
            rivals_influence=np.stack(
                [
                    np.mean(moves[r], 0) if r in moves else np.zeros_like(moves[TRAINED][0])
                    for r in RIVALS
                ]
            ),
        )

    @property
    def best(self) -> np.ndarray:
        """(m,) which of the rivals tells each fact best."""
        return np.where(np.isnan(self.rivals), -np.inf, self.rivals).argmax(0)

    @property
    def each(self) -> np.ndarray:
        """(s, m) F1 minus that of the best rival, by seed."""
        return self.f1 - self.rivals[self.best, np.arange(self.rivals.shape[1])]

    def over_episodes(self) -> tuple[np.ndarray, np.ndarray]:
        """(m,), (m,): ends of the interval of each fact's margin, over groups of episodes."""
        estimates = mean_columns(self._moves(), of="groups of episodes")
        value = self.each.mean(0) - estimates.value
        return value + estimates.low, value + estimates.high

    def beyond(self) -> np.ndarray:
        """(m,) bool: facts that are told better than by the best rival, beyond the interval over episodes, in
        every seed, and better than in every untrained network."""
        low, _ = self.over_episodes()
        above = self.f1.mean(0) > self.untrained.max(0)
        return (low > 0) & (self.each.min(0) > 0) & above

    def group(self, facts: np.ndarray) -> Group:
        """The means over some facts."""
        moves, mean = self._moves()[:, facts].mean(1), self.each[:, facts].mean(1)
        over = {
            rival: (self.f1 - self.rivals[i])[:, facts].mean(1) for i, rival in enumerate(RIVALS)
        }
        return Group(
            facts=int(facts.sum()),
            f1=_seeds(self.f1[:, facts].mean(1)),
            margin=_seeds(mean),
            margin_over_episodes=over_groups(float(mean.mean()), moves),
            over={rival: _seeds(values) for rival, values in over.items()},
            over_episodes={
                rival: over_groups(
                    float(over[rival].mean()),
                    (self.influence - self.rivals_influence[i])[:, facts].mean(1),
                )
                for i, rival in enumerate(RIVALS)
            },
            next_untrained=next_estimate(self.untrained[:, facts].mean(1), of="untrained networks"),
            rivals={rival: float(self.rivals[i, facts].mean()) for i, rival in enumerate(RIVALS)},
            beyond=int(self.beyond()[facts].sum()),
        )

    def _moves(self) -> np.ndarray:
        """(c, m) how groups of episodes move each margin; which rival is the best is taken as given."""
        return (
            self.influence - self.rivals_influence[self.best, :, np.arange(self.rivals.shape[1])].T
        )


@dataclass(frozen=True)
class Group:
    """Means over the facts of a group.

    Attributes:
        facts: How many there are.
        f1: Over seeds of the dictionary. margin: F1 minus that of the best rival of each fact, over seeds.
        margin_over_episodes: The same with the interval that groups of episodes give.
        over, over_episodes: The margin over each rival, likewise.
        next_untrained: Where the F1 of one more untrained network lies.
        rivals: F1 of each. beyond: Facts beyond all of them.
    """

    facts: int
    f1: Estimate
    margin: Estimate
    margin_over_episodes: Estimate
    over: Mapping[str, Estimate]
    over_episodes: Mapping[str, Estimate]
    next_untrained: Estimate
    rivals: Mapping[str, float]
    beyond: int

    def margin_over(self, rival: str) -> tuple[Estimate, Estimate]:
        """The margin over a rival, with its interval over seeds and that over groups of episodes."""
        return self.over[rival], self.over_episodes[rival]


def _seeds(values: np.ndarray) -> Estimate:
    return mean_estimate(values, of="seeds")
