"""A3: what the residual stream already predicts after each layer, read by the logit lens and a tuned lens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dtx.dataset.dataset import Dataset
from dtx.dt.model_stage import ModelStage
from dtx.dt.provider import check_checkpoint
from dtx.env.environment import Environment
from dtx.report import Report
from dtx.stage import Stage


@dataclass(frozen=True, kw_only=True)
class Lens(Stage):
    """Predictions from inside, at demonstrated states; ``conf/analysis/lens.yaml`` explains the fields.

    The logit lens applies the final normalisation and unembedding to the residual stream (nostalgebraist
    2020); the tuned lens first maps it by a learned affine translator (Belrose et al. 2023). A *share left
    unexplained* is KL(model || lens) over KL(model || the model's mean policy).
    Control: the same architecture untrained, with its own lenses. Exact checks: at the last point both
    lenses are the logits, and the components' contributions add up to them.
    Emits tables ``points``, ``decision``, ``components``, ``claims``, a figure, ``lens/*`` numbers.
    """

    env: Environment
    dataset: Dataset
    dt: ModelStage
    checkpoint: int | None
    targets: tuple[float, ...]
    windows: int
    held_out: int
    steps: int
    batch_size: int
    learning_rate: float
    explained: float
    resamples: int
    seed: int

    def check(self) -> Iterator[tuple[str, str]]:
        """Ranges."""
        yield from check_checkpoint(self.checkpoint)
        for name in ("windows", "held_out", "batch_size", "resamples"):
            if getattr(self, name) < 1:
                yield name, "must be at least 1"
        for name in ("steps", "seed"):
            if getattr(self, name) < 0:
                yield name, "must be 0 or more"
        if self.learning_rate <= 0:
            yield "learning_rate", f"must be above 0, not {self.learning_rate:g}"
        if not 0 < self.explained < 1:
            yield "explained", "is a share: between 0 and 1"
        if not self.targets:
            yield "targets", "at least one is wanted"

    def run(self, out: Path) -> None:
        """Train the lenses and read; an interrupted run starts again, it takes seconds."""
        from dtx.analysis.core.claims import write_claims
        from dtx.analysis.lens.compute import measure
        from dtx.analysis.lens.plots import draw

        report = Report(out)
        results = measure(self)
        for name in ("points", "decision", "components"):
            report.table(name, getattr(results, name))
        report.headline(results.headline)
        write_claims(report, results.claims, results.failed)
        draw(report, results, self)

    def summary(self) -> str:
        """The verdicts with their numbers."""
        from dtx.analysis.core.claims import summarise

        return summarise(self.path)
