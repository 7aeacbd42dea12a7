"""B3: how far the model's policy is from its teacher's, and which temperature of the teacher it simulates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dtx.agent.agent import AgentStage
from dtx.dataset.dataset import Dataset
from dtx.dt.model_stage import ModelStage
from dtx.dt.provider import check_checkpoint
from dtx.report import Report
from dtx.stage import Stage


@dataclass(frozen=True, kw_only=True)
class Teacher(Stage):
    """Teacher and model at the states of demonstrations; ``conf/analysis/teacher.yaml`` explains the fields.

    Controls: an n-gram model of actions, which sees no observation, and the architecture untrained.
    Exact check: the divergence of a model from itself is 0.
    Emits tables ``comparison`` and ``claims``, a figure, ``teacher/*`` numbers.
    """

    dataset: Dataset
    agent: AgentStage
    dt: ModelStage
    checkpoint: int | None
    episodes: int
    temperatures: tuple[float, ...]
    targets: tuple[float, ...]
    n_gram: int
    resamples: int
    seed: int

    def check(self) -> Iterator[tuple[str, str]]:
        """Ranges."""
        yield from check_checkpoint(self.checkpoint)
        for name in ("episodes", "n_gram", "resamples"):
            if getattr(self, name) < 1:
                yield name, "must be at least 1"
        if not self.temperatures:
            yield "temperatures", "at least one is wanted"
        for temperature in self.temperatures:
            if temperature <= 0:
                yield "temperatures", f"must be above 0, not {temperature:g}"
        if self.seed < 0:
            yield "seed", "must be 0 or more"

    def run(self, out: Path) -> None:
        """Measure; an interrupted run starts again, it takes seconds."""
        from dtx.analysis.core.claims import write_claims
        from dtx.analysis.teacher.compute import measure
        from dtx.analysis.teacher.plots import draw

        report = Report(out)
        results = measure(self)
        report.table("comparison", results.comparison)
        report.headline(results.headline)
        write_claims(report, results.claims, results.failed)
        draw(report, results, self)

    def summary(self) -> str:
        """The verdict with its numbers."""
        from dtx.analysis.core.claims import summarise

        return summarise(self.path)
