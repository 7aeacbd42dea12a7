"""Logit lens and tuned lens: what the residual stream already predicts after each layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.result import Result
from dtx.analysis.lens.spec import LensSpec
from dtx.config.ranges import Natural
from dtx.dataset.dataset import Dataset
from dtx.dt.model_stage import ModelStage
from dtx.env.environment import Environment

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from dtx.analysis.core.answers import Subject


@dataclass(frozen=True, kw_only=True)
class Lens(LensSpec, Analysis):
    """Predictions read from inside the model; ``conf/analysis/lens.yaml`` explains the fields.

    The logit lens applies the final normalisation and unembedding to the residual stream (nostalgebraist
    2020); the tuned lens first maps it by a learned affine translator (Belrose et al. 2023).
    Controls: untrained models of the architecture, with their own lenses. Exact checks: at the last point
    both lenses are the logits, and the components' contributions add up to them.
    """

    question: ClassVar[str] = "After which layer is the prediction formed?"

    env: Environment
    dataset: Dataset
    dt: ModelStage
    checkpoint: Natural | None

    def compute(self) -> Result:
        """Fit the lenses of the model and of an untrained one, and read them."""
        from dtx.analysis.lens.compute import compute
        from dtx.dt.load import load_at

        model = load_at(self.dt, self.checkpoint, self.env)
        windows = self.dt.trained_windows
        return compute(self, model, self.dataset.load(), self.env.decision, windows)

    def answers(self, subject: Subject) -> Iterator[pd.DataFrame]:
        """The point at which the prediction of a known model forms."""
        from dtx.analysis.lens.truth import answers

        return answers(subject)

    def figures(self, result: Result) -> Iterator[tuple[str, Figure]]:
        """``lens``: what each lens leaves unexplained, and how the decision builds up."""
        from dtx.analysis.lens.plots import draw

        yield "lens", draw(result, self.targets)
