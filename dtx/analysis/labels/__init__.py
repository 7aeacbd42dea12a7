"""Labels of features by facts of the world: decision trees as sentences, beside what the input tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.result import Result
from dtx.analysis.core.scoring import Scoring
from dtx.analysis.labels.spec import LabelsSpec
from dtx.dictionary.dictionary_stage import DictionaryStage
from dtx.dictionary.spec import How
from dtx.resources import Resources
from dtx.stage import Stage

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Labels(LabelsSpec, Analysis):
    """Names for features; ``conf/analysis/labels.yaml`` explains the fields.

    Each live feature gets a decision tree over facts of the world, fitted on one half of the prefixes and
    scored on the other. Controls: what the raw input of the token tells, untrained networks' own
    dictionaries, random directions, random labels per view, shuffled activations. Exact checks: every
    fact is named by itself, and each sentence is the tree that was scored.
    """

    question: ClassVar[str] = "Which features have a name, beyond what the input tells?"
    headline: ClassVar[tuple[str, ...]] = ("named_share", "named_share_untrained")
    scoring: ClassVar[Scoring | None] = None

    dictionary: DictionaryStage

    def derived(self) -> Mapping[str, Stage]:
        """The same dictionaries of untrained networks."""
        return {f"untrained_{i}": self.dictionary.of_untrained(i) for i in range(self.untrained)}

    def check(self) -> Iterator[tuple[str, str]]:
        """Facts of the demonstrations' worlds, and expressions over them."""
        from dtx.activations.facts import check_facts

        dataset = self.dictionary.activations.dataset
        for place, what in check_facts(dataset, self.facts):
            kind, _, name = place.partition(".")
            yield (f"facts.{name}" if name else f"dictionary.activations.{kind}"), what
        if How.trained not in self.dictionary.how:
            yield "dictionary.how", "trains no dictionary, only controls: add trained"

    def resources(self) -> Resources:
        """Facts and features of the rows, as numbers and as sparse ones; a tree a feature."""
        width, seeds = self.dictionary.width[0], len(self.dictionary.seeds)
        sources = seeds + self.untrained + 3
        return Resources(
            memory={"rows": self.rows * (4000.0 + sources * 8 * self.dictionary.sparsities[0])},
            seconds=10 + sources * width * 6e-3 * (1 + self.rows / 40_000),
        )

    def compute(self) -> Result:
        """Label the features of the first size of dictionary, over all its seeds."""
        from dtx.analysis.labels.reading import read

        untrained = [self.dictionary.of_untrained(i) for i in range(self.untrained)]
        return read(self, self.dictionary, untrained)

    def figures(self, result: Result) -> Iterator[tuple[str, Figure]]:
        """``labels``: shares of named features by source, and scores beside what the input tells."""
        from dtx.analysis.labels.plots import draw

        yield "labels", draw(result)
