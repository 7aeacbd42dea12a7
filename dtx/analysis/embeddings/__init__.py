"""Geometry of the embeddings, and principal components of subsets as maps of the view."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.result import Result
from dtx.analysis.embeddings.spec import EmbeddingsSpec
from dtx.config.ranges import Natural
from dtx.dataset.dataset import Dataset
from dtx.dt.model_stage import ModelStage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dtx.report import Page


@dataclass(frozen=True, kw_only=True)
class Embeddings(EmbeddingsSpec, Analysis):
    """Norms, cosines, principal components; ``conf/analysis/embeddings.yaml`` explains the fields.

    Controls: Gaussian tables of the same size, random subsets of the same size. Exact checks: relabelling
    the channels changes no number, the components' shares of variance add to 1.
    """

    question: ClassVar[str] = "Which channels of the view point the same or the opposite way?"
    cover: ClassVar[str] = "components"

    dataset: Dataset
    dt: ModelStage
    checkpoint: Natural | None

    def compute(self) -> Result:
        """Read the state embedding of the channels that occur in the demonstrations."""
        from dtx.analysis.embeddings.compute import compute
        from dtx.dt.load import load_at

        return compute(self, load_at(self.dt, self.checkpoint), self.dataset.load())

    def figures(self, result: Result) -> Iterator[tuple[str, Figure | Page]]:
        """``embeddings`` (cosines) and ``components`` (maps); the clustergram as a page."""
        from dtx.analysis.embeddings.plots import cosines, maps, page

        yield "embeddings", cosines(result)
        if len(result.tables["maps"]):
            yield "components", maps(result)
        yield "embeddings", page(result)
