"""Processing equivalence: do folded, centred and re-read weights compute the same logits?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.inputs import Inputs
from dtx.analysis.core.result import Result
from dtx.analysis.equivalence.spec import EquivalenceSpec
from dtx.config.ranges import Natural
from dtx.dt.model_stage import ModelStage

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Equivalence(EquivalenceSpec, Analysis):
    """Largest change of a logit; ``conf/analysis/equivalence.yaml`` explains the fields.

    Each rewriting is tried on the model and on the same model with random LayerNorms and biases, for which
    folding changes many weights. Exact checks: each rewriting leaves the logits as they are, in float64 and
    up to rounding in float32. Control: folding that leaves out a matrix must change them.
    """

    question: ClassVar[str] = "Do folded and centred weights compute the same logits?"

    windows: Inputs
    dt: ModelStage
    checkpoint: Natural | None

    def compute(self) -> Result:
        """Compare the logits of all rewritings."""
        from dtx.analysis.equivalence.compute import compute
        from dtx.dt.load import load_at

        model = load_at(self.dt, self.checkpoint, self.windows.env)
        contexts = {
            "decision": self.windows.deciding(model)[0],
            "demonstrations": self.windows.demonstrated(model)[0],
        }
        return compute(self, model, contexts)

    def figures(self, result: Result) -> Iterator[tuple[str, Figure]]:
        """``equivalence``: the largest change of a logit by rewriting."""
        from dtx.analysis.equivalence.plots import draw

        yield "equivalence", draw(result, self.tolerance)
