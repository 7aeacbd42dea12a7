"""Direct logit attribution: what adds up to the logit difference at the decision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.attribution.spec import AttributionSpec
from dtx.analysis.core.inputs import Inputs
from dtx.analysis.core.of_model import OfModel
from dtx.analysis.core.parts import Parts, Problem, no_contrast
from dtx.analysis.core.result import Result
from dtx.resources import Resources

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from dtx.analysis.core.answers import Subject
    from dtx.report import Page


@dataclass(frozen=True, kw_only=True)
class Attribution(AttributionSpec, OfModel):
    """Direct logit attribution; ``conf/analysis/attribution.yaml`` explains the fields.

    The final LayerNorm's scale is held as it was. Control: random directions of the same norm in the place
    of the contrast's. Exact checks: the components add up to the logit difference, and so do the finer parts
    (embedding channels, heads by source position, neurons).
    """

    question: ClassVar[str] = "What adds up to the logit difference at the decision?"
    acts_in: ClassVar[str] = "windows.env"

    windows: Inputs

    def resources(self) -> Resources:
        """Every window once, and its parts."""
        windows = self.windows.number
        return self.dt.passing(10 * windows, self.windows.steps, {"windows": windows})

    def misfits(self, sizes: Parts) -> Iterator[Problem]:
        """Actions that a model does not have."""
        yield from no_contrast(sizes, self.contrast)

    def compute(self) -> Result:
        """Attribute the contrast in all windows."""
        from dtx.analysis.attribution.compute import compute

        model = self.model()
        return compute(self, model, *self.windows.deciding(model))

    def figures(self, result: Result) -> Iterator[tuple[str, Figure | Page]]:
        """``attribution``: the parts ranked, by neuron and cell; as a page by window."""
        from dtx.analysis.attribution.plots import draw, page

        yield "attribution", draw(result, str(self.contrast), self.shown)
        yield "attribution", page(result, str(self.contrast))

    def answers(self, subject: Subject) -> Iterator[pd.DataFrame]:
        """What writes the decision of a known model."""
        from dtx.analysis.attribution.truth import answers

        return answers(subject)
