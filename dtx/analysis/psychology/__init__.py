"""B2: how the model decides: what is routine, where it decides, how sure it is, whether it looks back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dtx.analysis.core.claims import check_targets
from dtx.dt.model_stage import ModelStage
from dtx.dt.provider import check_checkpoint
from dtx.env.environment import Environment
from dtx.report import Report
from dtx.stage import Stage


@dataclass(frozen=True, kw_only=True)
class Psychology(Stage):
    """The policy in every pose that fits the context; ``conf/analysis/psychology.yaml`` explains the fields.

    A *pose* is a cell and a direction, reached by its shortest actions from the start; *on the routine* are
    those on the scripted way to success. A *decision pose* is one where the policies of layouts that ask
    for different turns differ: mean Jensen-Shannon divergence (nats, at most ln 2) over a threshold; its
    cell is a *decision square*. A decision is *cached* if the model walks on after a turn that was forced
    to the wrong side. A *look-back* is an episode that faces back along the corridor at some time.
    Control: the same architecture untrained. Emits tables ``states``, ``divergence``, ``play``, ``claims``,
    figures, ``psychology/*`` numbers.
    """

    version: ClassVar[int] = 2  # since non-kinetic mass is held against untrained models

    env: Environment
    dt: ModelStage
    checkpoint: int | None
    targets: tuple[float, ...]
    low: float
    high: float
    threshold: float
    episodes: int
    untrained: int
    resamples: int
    seed: int

    def check(self) -> Iterator[tuple[str, str]]:
        """Ranges, and an environment with layouts and a routine."""
        yield from check_checkpoint(self.checkpoint)
        if not hasattr(self.env, "routine"):
            yield (
                "env",
                "has no layouts and no scripted routine to compare with; use env=memory or another one "
                "with layouts() and routine()",
            )
        yield from check_targets(self.targets, self.low, self.high)
        for name in ("episodes", "untrained", "resamples"):
            if getattr(self, name) < 1:
                yield name, "must be at least 1"
        if not 0 < self.threshold < 0.693:
            yield "threshold", f"must lie between 0 and ln 2 = 0.693 nats, not {self.threshold:g}"
        if self.seed < 0:
            yield "seed", "must be 0 or more"

    def run(self, out: Path) -> None:
        """Measure; an interrupted run starts again, it takes seconds."""
        from dtx.analysis.core.claims import write_claims
        from dtx.analysis.psychology.claims import judge
        from dtx.analysis.psychology.compute import measure
        from dtx.analysis.psychology.plots import draw

        report = Report(out)
        results = measure(self)
        for name in ("states", "divergence", "play"):
            report.table(name, getattr(results, name))
        headline, claims, failed = judge(self, results)
        report.headline(headline)
        write_claims(report, claims, failed)
        draw(report, results, self)

    def summary(self) -> str:
        """The verdicts with their numbers."""
        from dtx.analysis.core.claims import summarise

        return summarise(self.path)
