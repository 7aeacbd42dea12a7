"""Ablation: which heads, attention outputs, MLPs and neurons the decision needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.ablation.spec import AblatedTokens, AblationSpec
from dtx.analysis.core.inputs import Inputs
from dtx.analysis.core.of_model import OfModel
from dtx.analysis.core.result import Result
from dtx.resources import Resources

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from dtx.analysis.core.answers import Subject
    from dtx.report import Page


@dataclass(frozen=True, kw_only=True)
class Ablation(AblationSpec, OfModel):
    """Ablate every node, one at a time; ``conf/analysis/ablation.yaml`` explains the fields.

    Everything is by reward-to-go, and only where there is a decision. Control: random directions, as far from
    the node's output as the ablation is, and the other nodes of the kind; a node is *needed*, or *hinders*,
    only beyond both, by Holm's method among all nodes. Exact checks: resampling a window from itself changes
    nothing, all heads together are their attention's output and all neurons their MLP's.
    """

    version: ClassVar[int] = 2  # since needed is by reward-to-go, by Holm's method, and has a sign
    question: ClassVar[str] = "Which heads, MLPs and neurons does the decision need?"
    acts_in: ClassVar[str] = "windows.env"

    windows: Inputs

    def resources(self) -> Resources:
        """Every node by every method, from every donor and with every random direction."""
        sizes, windows = self.dt.sizes, self.windows.number
        nodes = 1
        if sizes is not None:
            nodes = sizes.n_layers * (sizes.n_heads + 2) + len(self.neurons) * sizes.d_mlp
        each = len(self.methods) * (self.donors + self.random_directions)
        passes = windows * nodes * each
        held = {"at_once": min(self.at_once, passes), "reference": self.reference}
        return self.dt.passing(passes, self.windows.steps, held)

    def compute(self) -> Result:
        """Ablate every node by every method."""
        from dtx.analysis.ablation.choice import turn_signs
        from dtx.analysis.ablation.compute import compute
        from dtx.analysis.ablation.data import reference_of

        model = self.model()
        context, frame = self.windows.deciding(model)
        # Not the windows that are ablated, where those are of the demonstrations.
        reference = reference_of(self.windows, model, context, self.reference, self.seed + 1)
        turns = turn_signs(self.windows.env.decision, frame, self.contrast)
        return compute(self, model, context, frame, reference, turns)

    def figures(self, result: Result) -> Iterator[tuple[str, Figure | Page]]:
        """``ablation``: the largest effects, and a page of all; ``ablation_neurons``, if any are ablated."""
        from dtx.analysis.ablation.plots import draw, draw_neurons, page

        yield "ablation", draw(result, self)
        yield "ablation", page(result, self)
        if self.neurons:
            yield "ablation_neurons", draw_neurons(result, self)

    def answers(self, subject: Subject) -> Iterator[pd.DataFrame]:
        """What the decision of a known model needs."""
        from dtx.analysis.ablation.truth import answers

        return answers(subject, self.tokens is AblatedTokens.last)
