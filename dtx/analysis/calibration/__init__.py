"""B1: achieved return against the return asked for, and whether the model is steered by it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dtx.dataset.dataset import Dataset
from dtx.dt.decision_transformer import DecisionTransformer
from dtx.dt.model_stage import ModelStage
from dtx.env.environment import Environment
from dtx.report import Report, read_metrics
from dtx.stage import Stage


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """What a steered model must do; ``conf/analysis/calibration.yaml`` explains the fields."""

    high: float
    min_success: float
    low: float
    max_return: float
    min_wrong_layouts: float
    min_spearman: float
    max_from_chance: float

    def check(self) -> Iterator[tuple[str, str]]:
        """Shares are shares, and the high target is above the low one."""
        for name in ("min_success", "min_wrong_layouts"):
            if not 0 <= getattr(self, name) <= 1:
                yield name, "is a share: between 0 and 1"
        if not -1 <= self.min_spearman <= 1:
            yield "min_spearman", "is a correlation: between -1 and 1"
        if self.max_from_chance < 0:
            yield "max_from_chance", "must be 0 or more"
        if self.high <= self.low:
            yield "high", f"{self.high:g} must be above the low target, {self.low:g}"


@dataclass(frozen=True, kw_only=True)
class Calibration(Stage):
    """Ask for returns, act, and compare; ``conf/analysis/calibration.yaml`` explains the fields.

    Controls: a behaviour clone (its curve is flat exactly, because each episode has the same random
    numbers at every target), an untrained model, and a uniformly random policy. A model that was not trained
    here has no clone, so that its steering is not established; its untrained twin is drawn on the spot.
    Emits tables ``curve``, ``decision``, ``criteria``, a figure, and ``calibration/*`` numbers.
    """

    env: Environment
    dataset: Dataset | None
    dt: ModelStage
    behaviour_clone: DecisionTransformer | None
    untrained: DecisionTransformer | None
    targets: tuple[float, ...]
    episodes: int
    greedy_episodes: int
    control_episodes: int
    temperature: float
    support: int
    resamples: int
    criteria: Criteria
    seed: int

    def check(self) -> Iterator[tuple[str, str]]:
        """Ranges, and controls that are controls."""
        for name in ("episodes", "greedy_episodes", "control_episodes", "resamples"):
            if getattr(self, name) < 1:
                yield name, "must be at least 1"
        for name in ("support", "seed"):
            if getattr(self, name) < 0:
                yield name, "must be 0 or more"
        if self.temperature <= 0:
            yield "temperature", f"must be above 0, not {self.temperature:g}"
        if len(set(self.targets)) < 2:
            yield "targets", "a curve needs at least two different targets"
        for name in ("low", "high"):
            if getattr(self.criteria, name) not in self.targets:
                yield (
                    f"criteria.{name}",
                    f"{getattr(self.criteria, name):g} must be one of the targets",
                )
        if self.behaviour_clone and self.behaviour_clone.reward_to_go:
            yield "behaviour_clone", "is no control: it has reward_to_go"
        if self.untrained and self.untrained.steps:
            yield "untrained", f"is no control: it is trained for {self.untrained.steps} steps"

    def run(self, out: Path) -> None:
        """Play all models at all targets; an interrupted run starts again, it takes seconds."""
        from dtx.analysis.calibration.compute import measure
        from dtx.analysis.calibration.plots import draw

        report = Report(out)
        results = measure(self)
        for name in ("curve", "decision", "criteria"):
            report.table(name, getattr(results, name))
        report.headline(results.headline)
        draw(report, results, self)

    def summary(self) -> str:
        """The verdict first, then the numbers behind it."""
        n = read_metrics(self.path)
        verdict = "steered" if n["calibration/steered"] else "NOT established as steered"
        parts = [
            f"{verdict}: asked for {self.criteria.high:g} success {n['calibration/success_high']:.2f}",
            f"asked for {self.criteria.low:g} return {n['calibration/return_low']:.3f}",
            f"Spearman {n['calibration/spearman']:.2f}"
            if n["calibration/spearman"] is not None
            else "no Spearman",
            f"clone's spread {n['calibration/clone_spread']:.3f}"
            if n["calibration/clone_spread"] is not None
            else "no clone to compare with",
        ]
        wrong = n.get("calibration/greedy_wrong_layouts")
        if wrong is not None:
            parts.insert(2, f"greedy ends wrong in {wrong:.0%} of layouts")
        return ", ".join(parts)
