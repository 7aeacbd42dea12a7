"""Attribution patching: effects of patches estimated from gradients, beside those of exact patches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.attribution_patching.spec import AttributionPatchingSpec
from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.result import Result
from dtx.analysis.core.scoring import Scoring
from dtx.config.ranges import Natural
from dtx.dt.model_stage import ModelStage
from dtx.pairs.declared import Declared

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from dtx.analysis.core.answers import Subject
    from dtx.report import Page


@dataclass(frozen=True, kw_only=True)
class AttributionPatching(AttributionPatchingSpec, Analysis):
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
    scoring: ClassVar[Scoring | None] = Scoring(
        by_ranking=True, estimates=True, ungated=("attribution_patching", "eap")
    )

    dt: ModelStage
    checkpoint: Natural | None
    pairs: Declared

    def compute(self) -> Result:
        """Estimate, patch exactly, compare."""
        from dtx.analysis.attribution_patching.compute import compute
        from dtx.dt.load import load_at

        return compute(self, load_at(self.dt, self.checkpoint), self.pairs.load())

    def answers(self, subject: Subject) -> Iterator[pd.DataFrame]:
        """Every estimate of a known model's nodes and edges."""
        from dtx.analysis.attribution_patching.truth import answers

        return answers(subject)

    def figures(self, result: Result) -> Iterator[tuple[str, Figure | Page]]:
        """``attribution_patching``: estimates against exact values, as a figure and as a page."""
        from dtx.analysis.attribution_patching.plots import draw, page

        yield "attribution_patching", draw(result)
        yield "attribution_patching", page(result)
