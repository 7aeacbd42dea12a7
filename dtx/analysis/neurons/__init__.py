"""Dashboards of neurons: what makes each fire, what it decodes, and what it does to the logits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.result import Result
from dtx.analysis.neurons.spec import NeuronsSpec, beyond
from dtx.config.ranges import Natural
from dtx.dataset.dataset import Dataset
from dtx.dt.model_stage import ModelStage
from dtx.env.environment import Environment

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from dtx.analysis.core.answers import Subject
    from dtx.report import Page


@dataclass(frozen=True, kw_only=True)
class Neurons(NeuronsSpec, Analysis):
    """Neurons of the MLPs, one by one; ``conf/analysis/neurons.yaml`` explains the fields.

    Controls: random states beside the strongest ones, and the same neuron of an untrained model. Exact
    checks: each activation that is shown is the model's own on that window alone, and activations times
    congruence are what the MLP adds to the logits.
    """

    question: ClassVar[str] = "What do single neurons answer to, and what do they do to the logits?"

    env: Environment
    dataset: Dataset
    dt: ModelStage
    checkpoint: Natural | None

    def check(self) -> Iterator[tuple[str, str]]:
        """Neurons of the model, where it is known before it is made."""
        yield from super().check()
        if (sizes := self.dt.sizes) is not None:
            yield from beyond(self, sizes)

    def compute(self) -> Result:
        """Choose neurons and describe them over the states of the demonstrations."""
        from dtx.analysis.neurons.compute import compute
        from dtx.dt.load import load_at

        model = load_at(self.dt, self.checkpoint, self.env)
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
        yield "neurons", NeuronsPage(result, self.dt.label)
