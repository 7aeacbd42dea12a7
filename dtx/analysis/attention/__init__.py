"""A1: where tokens look, by modality; and how far reward-to-go moves it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dtx.analysis.core.targets import check_targets
from dtx.dt.load import check_checkpoint
from dtx.dt.model_stage import ModelStage
from dtx.env.environment import Environment
from dtx.report import Report
from dtx.stage import Stage


@dataclass(frozen=True, kw_only=True)
class Attention(Stage):
    """Attention on the way to the decision; ``conf/analysis/attention.yaml`` explains the fields.

    Windows: every layout at every target, after the routine's actions up to the decision square.
    Controls: the same architecture untrained, and attention spread evenly over what may be seen.
    Emits tables ``modality``, ``maps``, ``moved``, ``looks``, ``claims``, figures, ``attention/*`` numbers.
    """

    env: Environment
    dt: ModelStage
    checkpoint: int | None
    targets: tuple[float, ...]
    low: float
    high: float
    untrained: int
    margin: float
    resamples: int
    seed: int

    def check(self) -> Iterator[tuple[str, str]]:
        """Ranges, and an environment with a scripted way to its decision."""
        yield from check_checkpoint(self.checkpoint)
        if not hasattr(self.env, "routine"):
            yield (
                "env",
                "has no scripted routine to a decision, over which attention is compared; use "
                "env=memory or another one with layouts() and routine()",
            )
        yield from check_targets(self.targets, self.low, self.high)
        for name in ("untrained", "resamples"):
            if getattr(self, name) < 1:
                yield name, "must be at least 1"
        if not 0 <= self.margin <= 1:
            yield "margin", "is a share of attention: between 0 and 1"
        if self.seed < 0:
            yield "seed", "must be 0 or more"

    def run(self, out: Path) -> None:
        """Measure; an interrupted run starts again, it takes seconds."""
        from dtx.analysis.attention.compute import measure
        from dtx.analysis.attention.plots import draw
        from dtx.analysis.core.claims import write_claims

        report = Report(out)
        results = measure(self)
        for name in ("modality", "maps", "moved", "looks"):
            report.table(name, getattr(results, name))
        report.headline(results.headline)
        write_claims(report, results.claims, results.failed)
        draw(report, results, self)

    def summary(self) -> str:
        """The verdicts with their numbers."""
        from dtx.analysis.core.claims import summarise

        return summarise(self.path)
