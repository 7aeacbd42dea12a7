"""A page with every feature of a dictionary: what it answers to, drawn, and what is nearest elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.result import Result
from dtx.analysis.core.scoring import Scoring
from dtx.analysis.feature_pages.spec import FeaturePagesSpec
from dtx.dictionary.dictionary_stage import DictionaryStage
from dtx.dictionary.spec import How
from dtx.resources import Resources
from dtx.stage import Stage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dtx.report import Page


@dataclass(frozen=True, kw_only=True)
class FeaturePages(FeaturePagesSpec, Analysis):
    """One HTML page for all features; ``conf/analysis/feature_pages.yaml`` explains the fields.

    Of the first trained dictionary each live feature has: the tokens of its largest activation and random
    ones at which it is on, drawn as world and view; a histogram; where in the episode and at which kind of
    token it is on; its direct effect on the logits; its label and facts, where those analyses are given;
    the nearest feature in the dictionary's other seeds and, as the control, in an untrained network.
    Exact checks: activations that are drawn are recomputed on their window alone, histograms are complete.
    """

    question: ClassVar[str] = "What does each feature of a dictionary answer to?"
    headline: ClassVar[tuple[str, ...]] = ("live", "nearest_seed", "nearest_untrained")
    scoring: ClassVar[Scoring | None] = None
    cover: ClassVar[str] = "feature_pages"

    dictionary: DictionaryStage
    labels: Analysis | None
    features: Analysis | None

    def derived(self) -> Mapping[str, Stage]:
        """The same dictionary of an untrained network."""
        return {f"untrained_{self.untrained}": self.dictionary.of_untrained(self.untrained)}

    def check(self) -> Iterator[tuple[str, str]]:
        """A trained dictionary; labels and facts of the same dictionaries."""
        if How.trained not in self.dictionary.how:
            yield "dictionary.how", "trains no dictionary, only controls: add trained"
        for name in ("labels", "features"):
            given: Analysis | None = {"labels": self.labels, "features": self.features}[name]
            if given is None:
                continue
            if given.name != name:
                yield name, f"takes the analysis {name}, not {given.name}"
            elif given.inputs()["dictionary"].key != self.dictionary.key:
                yield name, "is of other dictionaries: give both the same"

    def resources(self) -> Resources:
        """Features of the rows, and pictures of what is drawn of each."""
        of = self.dictionary
        seeds, width = len(of.seeds), of.width[0]
        pairs = self.rows * of.sparsities[0]
        return Resources(
            memory={"rows": pairs * 24.0 * (seeds + 1)},
            disk={"dictionary.width, examples": 2e3 * width + 600.0 * width * self.examples},
            seconds=10 + 2e-6 * pairs * (seeds + 1) + 0.01 * width,
        )

    def compute(self) -> Result:
        """Describe the features of the first trained dictionary."""
        from dtx.analysis.feature_pages.reading import read

        return read(self, self.dictionary, self.labels, self.features)

    def figures(self, result: Result) -> Iterator[tuple[str, Figure | Page]]:
        """``feature_pages``: how near features are elsewhere; and the page."""
        from dtx.analysis.feature_pages.page import FeaturesPage
        from dtx.analysis.feature_pages.plots import draw

        yield "feature_pages", draw(result)
        yield "feature_pages", FeaturesPage(result, self.heading)
