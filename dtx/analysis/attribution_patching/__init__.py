"""Attribution patching: effects of patches estimated from gradients, beside those of exact patches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.attribution_patching.spec import AttributionPatchingSpec
from dtx.analysis.core.of_model import OfModel
from dtx.analysis.core.result import Result
from dtx.analysis.core.scoring import Scoring
from dtx.pairs.declared import Declared
from dtx.resources import Resources

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from dtx.analysis.core.answers import Subject
    from dtx.report import Page


@dataclass(frozen=True, kw_only=True)
class AttributionPatching(AttributionPatchingSpec, OfModel):
    """Estimate all nodes and edges; ``conf/analysis/attribution_patching.yaml`` explains it.

    Sources: Nanda (2023), Syed et al. (2023), Hanna et al. (2024), Marks et al. (2024); see ``spec.py``.
    Controls, of every method: estimates paired with exact values at random, and estimates for donors with
    the base run's answer against the exact values of the edit. Exact checks: the gradient's estimates add
    up to a difference quotient of patched runs, a sender's edges add up to its node, and within null pairs
    every estimate is 0. That integrated gradients add up to the whole difference is a criterion of
    convergence: steps are doubled until they do.
    """

    version: ClassVar[int] = 2  # since agreement is by reward-to-go, with intervals over layouts

    question: ClassVar[str] = "Do gradients estimate what exact patches bring?"
    headline: ClassVar[tuple[str, ...]] = ("*_least_r", "n_missing")
    scoring: ClassVar[Scoring | None] = Scoring(
        by_ranking=True, estimates=True, ungated=("attribution_patching", "eap")
    )

    pairs: Declared

    def resources(self) -> Resources:
        """Gradients along the way between the runs of every pair, and exact patches of some edges."""
        sizes = self.dt.sizes
        layers = 1 if sizes is None else sizes.n_layers
        exact = 3 * self.edges * layers * (1 if sizes is None else sizes.n_heads)
        passes = self.pairs.most_pairs * (3 * len(self.nodes) * layers * self.steps + exact)
        held = {"at_once": 4 * min(self.at_once, passes)}
        return self.dt.passing(passes, self.pairs.longest, held)

    def compute(self) -> Result:
        """Estimate, patch exactly, compare."""
        from dtx.analysis.attribution_patching.compute import compute

        return compute(self, self.model(), self.pairs.load())

    def answers(self, subject: Subject) -> Iterator[pd.DataFrame]:
        """Every estimate of a known model's nodes and edges."""
        from dtx.analysis.attribution_patching.truth import answers

        return answers(subject)

    def figures(self, result: Result) -> Iterator[tuple[str, Figure | Page]]:
        """``attribution_patching``: estimates against exact values, as a figure and as a page."""
        from dtx.analysis.attribution_patching.plots import draw, page

        yield "attribution_patching", draw(result)
        yield "attribution_patching", page(result)
