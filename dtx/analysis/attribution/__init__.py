"""A2: what adds up to the logit difference at the decision, with LayerNorm's scale as it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dtx.analysis.core.inputs import Contrast, Inputs
from dtx.dt.model_stage import ModelStage
from dtx.dt.provider import check_checkpoint
from dtx.report import Report, read_metrics
from dtx.stage import Stage

TOLERANCE = 1e-5
"""How far the parts' sum may be from the logit difference: the exact check."""


@dataclass(frozen=True, kw_only=True)
class Attribution(Stage):
    """Direct logit attribution; ``conf/analysis/attribution.yaml`` explains the fields.

    Control: random directions of the same norm in the place of the contrast's. Exact check: the parts
    (embedding channels, heads by source position, neurons, biases) add to the logit difference.
    Emits tables ``components``, ``parts``, ``ranking``, figures and ``attribution/*`` numbers.
    """

    windows: Inputs
    dt: ModelStage
    checkpoint: int | None
    contrast: Contrast
    random_directions: int
    shown: int
    resamples: int
    seed: int

    def check(self) -> Iterator[tuple[str, str]]:
        """Ranges."""
        yield from check_checkpoint(self.checkpoint)
        for name in ("shown", "resamples"):
            if getattr(self, name) < 1:
                yield name, "must be at least 1"
        if self.random_directions < 20:
            yield "random_directions", "a 95% quantile needs at least 20"
        if self.seed < 0:
            yield "seed", "must be 0 or more"

    def run(self, out: Path) -> None:
        """Measure; an interrupted run starts again, it takes seconds."""
        from dtx.analysis.attribution.compute import measure
        from dtx.analysis.attribution.plots import draw

        report = Report(out)
        results = measure(self)
        for name in ("components", "parts", "ranking"):
            report.table(name, getattr(results, name))
        report.headline(results.headline)
        draw(report, results, self)

    def summary(self) -> str:
        """Whether it is established, and what carries the difference."""
        import pandas as pd

        n = read_metrics(self.path)
        error = n["attribution/identity_error"]
        if error is None or error >= TOLERANCE:
            return f"not established: parts miss the logit difference by {error}"
        first = pd.read_parquet(self.path / "tables" / "ranking.parquet").iloc[0]
        found = (
            f"{first.component} carries {first.support:+.2f} [{first.low:+.2f}, {first.high:+.2f}] of a "
            f"{self.contrast} logit difference of {n['attribution/ld']:.2f} in "
            f"{n['attribution/distinct_inputs']:.0f} distinct windows (random directions: "
            f"{n['attribution/random_95']:.2f})"
        )
        if not n["attribution/established"]:
            return f"not established: not above random directions of the same norm; {found}"
        return found
