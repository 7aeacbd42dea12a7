"""QK and OV circuits by modality, composition of heads, singular values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.circuits.spec import CircuitsSpec
from dtx.analysis.core.inputs import Inputs
from dtx.analysis.core.of_model import OfModel
from dtx.analysis.core.result import Result
from dtx.resources import Resources

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Circuits(CircuitsSpec, OfModel):
    """Attention read from folded weights; ``conf/analysis/circuits.yaml`` explains the fields.

    Follows Elhage et al. (2021). Control: the largest preference and the strongest composition in
    several untrained models of the architecture. Exact check: the scores' parts, each a product of
    weights with one part of the query's and one of the key's residual stream, add to the score at run time.
    """

    question: ClassVar[str] = "What do heads attend to and write, and which of them compose?"
    headline: ClassVar[tuple[str, ...]] = (
        "preference_max",
        "composition_max",
        "composition_above_untrained",
    )
    acts_in: ClassVar[str] = "windows.env"
    cover: ClassVar[str] = "composition"

    windows: Inputs

    def resources(self) -> Resources:
        """Every window in a few models."""
        windows = self.windows.number
        return self.dt.passing(20 * windows, self.windows.steps, {"windows": windows})

    def compute(self) -> Result:
        """Read the weights of the model and of an untrained one."""
        from dtx.analysis.circuits.compute import compute

        model = self.model()
        windows = self.windows.deciding(model)
        return compute(self, model, *windows, self.windows.dataset.load())

    def figures(self, result: Result) -> Iterator[tuple[str, Figure]]:
        """``circuits``: modality and rank; with several layers ``composition``."""
        from dtx.analysis.circuits.plots import circuits, composition

        yield "circuits", circuits(result)
        if len(result.tables["composition"]):
            yield "composition", composition(result)
