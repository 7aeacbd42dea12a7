"""A label for each live feature of a source, its scores beside the controls, and the verdict.

Letters: n rows, f features, l labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dtx.analysis.core.verdicts import MINIMUM
from dtx.analysis.labels.inputs import Inputs
from dtx.analysis.labels.scores import F1, Half, always_on, margin
from dtx.analysis.labels.sources import Source, on_rows
from dtx.analysis.labels.spec import (
    FEWEST,
    INPUT_ONLY,
    NAMED,
    UNNAMED,
    UNTRAINED,
    FactsOfRows,
    LabelsSpec,
)
from dtx.analysis.labels.trees import Node, Term, Trees, predicted, sentence, term
from dtx.dictionary.sparse import width_of
from dtx.progress import Bar

TOGETHER = 256
"""Features whose labels are compared with other networks' features in one product."""


@dataclass(frozen=True)
class Judge:
    """All that a source's features are judged by: facts, halves, the input, other networks.

    Attributes:
        spec: What a label must reach. names: Of the facts.
        fit, score: The halves. trees: Fits labels to one. inputs: What the input alone tells.
        untrained: The features of untrained networks.
    """

    spec: LabelsSpec
    names: Sequence[str]
    fit: Half
    score: Half
    trees: Trees
    inputs: Inputs
    untrained: Sequence[Network]

    @staticmethod
    def of(
        spec: LabelsSpec,
        facts: FactsOfRows,
        columns: Mapping[str, np.ndarray],
        untrained: Sequence[Source],
    ) -> Judge:
        """Divide the rows in halves, by the seed, and prepare what is fitted to the first."""
        order = np.random.default_rng(spec.seed).permutation(len(facts.values))
        episode = np.unique(columns["episode"], return_inverse=True)[1].reshape(-1)
        weight = columns["count"].astype(np.float64)
        halves = [
            Half(rows, weight[rows], facts.values[rows].astype(bool), episode[rows])
            for rows in map(np.sort, np.array_split(order, 2))
        ]
        inputs = Inputs(columns, facts.inputs(), *halves, spec.depth)
        trees = Trees(halves[0].values, halves[0].weight, spec.depth)
        networks = [Network(source, *halves) for source in untrained]
        return Judge(spec, facts.names, *halves, trees, inputs, networks)

    def words(self, tree: Node) -> str:
        """A fitted tree as a sentence."""
        return sentence(term(tree), self.names)

    def live(self, on: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Places in the two halves of a feature's rows (p,); None: on too seldom to be judged."""
        found = []
        for half in (self.fit, self.score):
            at = np.flatnonzero(np.isin(half.rows, on, assume_unique=True))
            if len(at) < FEWEST or len(np.unique(half.episode[at])) < MINIMUM:
                return None
            found.append(at)
        return found[0], found[1]

    def others(self, source: Source) -> list[Network]:
        """The untrained networks that a source is held against: as many for each, never itself.

        An untrained network's own features are held against the other ones; the dictionary's therefore
        against all but one, each seed against all but another.
        """
        left = source.seed % len(self.untrained)
        if source.kind == UNTRAINED:
            seeds = [other.source.seed for other in self.untrained]
            left = seeds.index(source.seed)
        return [other for i, other in enumerate(self.untrained) if i != left]

    def table(self, source: Source, bar: Bar) -> pd.DataFrame:
        """One row a live feature: label, scores, margins, verdict.

        ``source, dictionary, seed, feature, density, label, facts`` (number in the label), ``f1, always_on,
        above_always_on, balanced_accuracy, input_f1, input_by, untrained_f1, margin, margin_low, margin_high,
        verdict``. Margins are over the best of input and untrained networks.
        """
        rows, waiting = [], []
        width = width_of(source.active)
        for feature in range(width):
            bar.advance()
            if (at := self.live(source.on(feature))) is not None:
                tree = self.trees.fit(at[0])
                waiting.append((feature, at, tree, predicted(tree, self.score.values)))
            if waiting and (len(waiting) == TOGETHER or feature == width - 1):
                rows += self._rows(source, waiting)
                waiting = []
        return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)

    def _rows(
        self, source: Source, waiting: Sequence[tuple[int, tuple, Node, np.ndarray]]
    ) -> Iterator[dict]:
        on_fit_nl = np.stack([predicted(tree, self.fit.values) for _, _, tree, _ in waiting], 1)
        on_score_nl = np.stack([prediction for *_, prediction in waiting], 1)
        nearest = [other.nearest(on_fit_nl, on_score_nl) for other in self.others(source)]
        for place, (feature, (at_fit, at), tree, prediction) in enumerate(waiting):
            own = self.score.with_influence(at, prediction)
            density = self.score.density(at)
            by, given = self.inputs.best(at_fit, at)
            others = [features[place] for features in nearest]
            above = own.value - always_on(density)
            found = margin(own, [given, *others])
            verdict = UNNAMED
            # A dense feature's always-on F1 is high, so that less is left to be gained above it.
            if above >= self.spec.least * (1 - always_on(density)):
                verdict = NAMED if found[1] > 0 else INPUT_ONLY
            label: Term = term(tree)
            yield {
                "source": source.kind,
                "dictionary": source.name,
                "seed": source.seed,
                "feature": feature,
                "density": density,
                "label": sentence(label, self.names),
                "facts": len(label.facts()),
                "f1": own.value,
                "always_on": always_on(density),
                "above_always_on": above,
                "balanced_accuracy": self.score.balanced_accuracy(at, prediction),
                "input_f1": given.value,
                "input_by": by,
                "untrained_f1": max(other.value for other in others),
                "margin": found[0],
                "margin_low": found[1],
                "margin_high": found[2],
                "verdict": verdict,
            }


class Network:
    """An untrained network's features at both halves, against which labels are held.

    Args:
        source: The features. fit, score: The halves.
    """

    def __init__(self, source: Source, fit: Half, score: Half):
        self.source, self._fit, self._score = source, fit, score
        active = (source.active > 0).astype(np.float64).tocsr()
        self._fit_fn = active[fit.rows].T.tocsr()
        self._size_f = self._fit_fn @ fit.weight
        self._score_nf = active[score.rows].tocsc()

    def nearest(self, on_fit_nl: np.ndarray, on_score_nl: np.ndarray) -> list[F1]:
        """For each label the feature that it fits best on one half: its F1 on the other, (l)."""
        weighted_nl = on_fit_nl * self._fit.weight[:, None]
        either_fl = self._size_f[:, None] + weighted_nl.sum(0)
        best_l = ((self._fit_fn @ weighted_nl) / np.maximum(either_fl, 1e-300)).argmax(0)
        return [
            self._score.with_influence(on_rows(self._score_nf, int(feature)), on_score_nl[:, i])
            for i, feature in enumerate(best_l)
        ]


COLUMNS = {
    "source": str, "dictionary": str, "seed": np.int64, "feature": np.int64, "density": float,
    "label": str, "facts": np.int64, "f1": float, "always_on": float, "above_always_on": float,
    "balanced_accuracy": float, "input_f1": float, "input_by": str, "untrained_f1": float,
    "margin": float, "margin_low": float, "margin_high": float, "verdict": str,
}  # fmt: skip
"""Of :meth:`Judge.table`, with their kinds, so that a table without rows has them, too."""
