"""Dashboards of neurons: what makes each fire, what it decodes, and what it does to the logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.of_model import OfModel
from dtx.analysis.core.result import Result
from dtx.analysis.neurons.spec import NeuronsSpec
from dtx.dataset.dataset import Dataset
from dtx.env.environment import Environment
from dtx.resources import Resources

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from dtx.analysis.core.answers import Subject
    from dtx.report import Page


@dataclass(frozen=True, kw_only=True)
class Neurons(NeuronsSpec, OfModel):
    """Neurons of the MLPs, one by one; ``conf/analysis/neurons.yaml`` explains the fields.

    Controls: random states beside the strongest ones, and the same neuron of an untrained model. Exact
    checks: each activation that is shown is the model's own on that window alone, and activations times
    congruence are what the MLP adds to the logits.
    """

    question: ClassVar[str] = "What do single neurons answer to, and what do they do to the logits?"
    headline: ClassVar[tuple[str, ...]] = ("selectivity", "selectivity_untrained")
    acts_in: ClassVar[str] = "env"

    env: Environment
    dataset: Dataset

    def resources(self) -> Resources:
        """Every state in the model and in untrained ones, and a picture of what each neuron shows."""
        needed = self.dt.passing(7 * self.states, None, {"states": self.states / 8})
        shown = len(self.named) or self.neurons
        return dataclasses.replace(
            needed,
            disk={"neurons, shown": 3 * shown * self.shown * 10e3},
            seconds=needed.seconds + 0.02 * shown * self.shown,
        )

    def compute(self) -> Result:
        """Choose neurons and describe them over the states of the demonstrations."""
        from dtx.analysis.neurons.compute import compute

        model = self.model()
        return compute(self, model, self.dataset.load(), self.env.decision)

    def answers(self, subject: Subject) -> Iterator[pd.DataFrame]:
        """Which neurons of a known model are shown, and where each fires."""
        from dtx.analysis.neurons.truth import answers

        return answers(subject)

    def figures(self, result: Result) -> Iterator[tuple[str, Figure | Page]]:
        """``neurons``: all at a glance; and a page with a section a neuron."""
        from dtx.analysis.neurons.page import NeuronsPage
        from dtx.analysis.neurons.plots import draw

        yield "neurons", draw(result)
        yield "neurons", NeuronsPage(result, self.heading)
