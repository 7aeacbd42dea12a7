"""Geometry of the embeddings, and principal components of subsets as maps of the view."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.of_model import OfModel
from dtx.analysis.core.result import Result
from dtx.analysis.embeddings.spec import EmbeddingsSpec
from dtx.dataset.dataset import Dataset
from dtx.resources import Resources

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dtx.report import Page


@dataclass(frozen=True, kw_only=True)
class Embeddings(EmbeddingsSpec, OfModel):
    """Norms, cosines, principal components; ``conf/analysis/embeddings.yaml`` explains the fields.

    Controls: Gaussian tables of the same size, random subsets of the same size. Exact checks: relabelling
    the channels changes no number, the components' shares of variance add to 1.
    """

    question: ClassVar[str] = "Which channels of the view point the same or the opposite way?"
    headline: ClassVar[tuple[str, ...]] = ("*_pc12", "antipodal_pairs")
    cover: ClassVar[str] = "components"

    dataset: Dataset

    def resources(self) -> Resources:
        """Random tables and subsets of every control."""
        needed = self.dt.passing(0)
        seconds = needed.seconds + 0.01 * self.controls * (1 + len(self.subsets))
        return dataclasses.replace(needed, seconds=seconds)

    def compute(self) -> Result:
        """Read the state embedding of the channels that occur in the demonstrations."""
        from dtx.analysis.embeddings.compute import compute

        return compute(self, self.model(), self.dataset.load())

    def figures(self, result: Result) -> Iterator[tuple[str, Figure | Page]]:
        """``embeddings`` (cosines) and ``components`` (maps); the clustergram as a page."""
        from dtx.analysis.embeddings.plots import cosines, maps, page

        yield "embeddings", cosines(result)
        if len(result.tables["maps"]):
            yield "components", maps(result)
        yield "embeddings", page(result)
