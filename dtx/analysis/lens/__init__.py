"""Logit lens and tuned lens: what the residual stream already predicts after each layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.of_model import OfModel
from dtx.analysis.core.result import Result
from dtx.analysis.lens.spec import LensSpec
from dtx.dataset.dataset import Dataset
from dtx.env.environment import Environment
from dtx.resources import OPERATIONS, Resources

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from dtx.analysis.core.answers import Subject


@dataclass(frozen=True, kw_only=True)
class Lens(LensSpec, OfModel):
    """Predictions read from inside the model; ``conf/analysis/lens.yaml`` explains the fields.

    The logit lens applies the final normalisation and unembedding to the residual stream (nostalgebraist
    2020); the tuned lens first maps it by a learned affine translator (Belrose et al. 2023).
    Controls: untrained models of the architecture, with their own lenses. Exact checks: at the last point
    both lenses are the logits, and the components' contributions add up to them.
    """

    question: ClassVar[str] = "After which layer is the prediction formed?"
    acts_in: ClassVar[str] = "env"

    env: Environment
    dataset: Dataset

    def resources(self) -> Resources:
        """The streams of the windows, and a translator at every layer, of the model and of untrained ones."""
        read = self.windows + self.held_out
        needed = self.dt.passing(6 * read)
        if self.dt.sizes is None:
            return needed
        sizes = self.dt.sizes
        a_state = 6 * (1 + 2 * sizes.n_layers) * sizes.d_model**2
        seconds = 6 * self.steps * self.batch_size * a_state / OPERATIONS
        streams = 4.0 * read * sizes.tokens / 3 * (1 + 2 * sizes.n_layers) * sizes.d_model
        batch = {"batch_size": 12.0 * self.batch_size * (1 + 2 * sizes.n_layers) * sizes.d_model}
        return dataclasses.replace(
            needed,
            memory={**needed.memory, "windows, held_out": streams, **batch},
            seconds=needed.seconds + seconds,
        )

    def compute(self) -> Result:
        """Fit the lenses of the model and of an untrained one, and read them."""
        from dtx.analysis.lens.compute import compute

        model = self.model()
        windows = self.dt.trained_windows
        return compute(self, model, self.dataset.load(), self.env.decision, windows)

    def answers(self, subject: Subject) -> Iterator[pd.DataFrame]:
        """The point at which the prediction of a known model forms."""
        from dtx.analysis.lens.truth import answers

        return answers(subject)

    def curves(self, result: Result) -> Iterator[tuple[str, int, float]]:
        """What each lens leaves unexplained; the step is the point of the stream, 0 the embedding."""
        for row in result.tables["points"].itertuples():
            yield f"unexplained by point/{row.model} {row.lens}", row.order, row.unexplained

    def figures(self, result: Result) -> Iterator[tuple[str, Figure]]:
        """``lens``: what each lens leaves unexplained, and how the decision builds up."""
        from dtx.analysis.lens.plots import draw

        yield "lens", draw(result, self.targets)
