"""Processing equivalence: do folded, centred and re-read weights compute the same logits?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.inputs import Inputs
from dtx.analysis.core.of_model import OfModel
from dtx.analysis.core.result import Result
from dtx.analysis.equivalence.spec import EquivalenceSpec
from dtx.resources import Resources

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Equivalence(EquivalenceSpec, OfModel):
    """Largest change of a logit; ``conf/analysis/equivalence.yaml`` explains the fields.

    Each rewriting is tried on the model and on the same model with random LayerNorms and biases, for which
    folding changes many weights. Exact checks: each rewriting leaves the logits as they are, in float64 and
    up to rounding in float32. Control: folding that leaves out a matrix must change them.
    """

    question: ClassVar[str] = "Do folded and centred weights compute the same logits?"
    headline: ClassVar[tuple[str, ...]] = ("equivalent", "max_logit_diff")
    acts_in: ClassVar[str] = "windows.env"

    windows: Inputs

    def resources(self) -> Resources:
        """Every window with every rewriting, in two precisions."""
        windows = self.windows.number
        needed = self.dt.passing(50 * windows, self.windows.steps, {"windows": 2 * windows})
        return dataclasses.replace(
            needed, seconds=needed.seconds + 4
        )  # rewriting the weights, exactly

    def compute(self) -> Result:
        """Compare the logits of all rewritings."""
        from dtx.analysis.equivalence.compute import compute

        model = self.model()
        contexts = {
            "decision": self.windows.deciding(model)[0],
            "demonstrations": self.windows.demonstrated(model)[0],
        }
        return compute(self, model, contexts)

    def figures(self, result: Result) -> Iterator[tuple[str, Figure]]:
        """``equivalence``: the largest change of a logit by rewriting."""
        from dtx.analysis.equivalence.plots import draw

        yield "equivalence", draw(result, self.tolerance)
