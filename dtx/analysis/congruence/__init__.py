"""Congruence: how much each neuron's output weights raise each action's logit, by layer and over training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.congruence.spec import CongruenceSpec
from dtx.analysis.core.inputs import Inputs
from dtx.analysis.core.of_model import OfModel
from dtx.analysis.core.parts import Parts, Problem, no_actions
from dtx.analysis.core.result import Result
from dtx.resources import Resources

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from dtx.analysis.core.answers import Subject


@dataclass(frozen=True, kw_only=True)
class Congruence(CongruenceSpec, OfModel):
    """C = W_out W_U; ``conf/analysis/congruence.yaml`` explains the fields.

    Control: several untrained models of the architecture; the kept checkpoints are shown beside it.
    Exact checks: the sum of activations times C, plus the bias, is the MLP's direct logit attribution,
    with raw and with folded weights.
    """

    question: ClassVar[str] = "How much does each neuron raise each action's logit?"
    headline: ClassVar[tuple[str, ...]] = ("actions_grown_mean", "actions_grown_tail")
    acts_in: ClassVar[str] = "windows.env"

    windows: Inputs

    def resources(self) -> Resources:
        """Every window in a few models and at every kept checkpoint."""
        windows = self.windows.number
        return self.dt.passing(30 * windows, self.windows.steps, {"windows": windows})

    def misfits(self, sizes: Parts) -> Iterator[Problem]:
        """Actions that a model does not have."""
        yield from no_actions(sizes, "actions", self.actions)

    def compute(self) -> Result:
        """Read the weights of the model, of its checkpoints and of an untrained one."""
        from dtx.analysis.congruence.compute import compute
        from dtx.dt.load import load_at

        model = self.model()
        steps = sorted(self.dt.checkpoints())
        checkpoints = ((step, load_at(self.dt, step)) for step in steps)
        return compute(self, model, self.windows.deciding(model)[0], checkpoints)

    def figures(self, result: Result) -> Iterator[tuple[str, Figure]]:
        """``congruence``: strips of neurons by layer, and their mean size over training."""
        from dtx.analysis.congruence.plots import draw

        yield "congruence", draw(result, [action.value for action in self.actions], self.seed)

    def answers(self, subject: Subject) -> Iterator[pd.DataFrame]:
        """Which neurons of a known model write the turn."""
        from dtx.analysis.congruence.truth import answers

        return answers(subject)
