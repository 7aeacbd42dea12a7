"""Achieved return against the return asked for, and whether the model is steered by it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.calibration.spec import CalibrationSpec
from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.result import Result
from dtx.analysis.core.scoring import Scoring
from dtx.dataset.dataset import Dataset
from dtx.dt.decision_transformer import DecisionTransformer
from dtx.dt.model_stage import ModelStage
from dtx.dt.shuffled_reward_to_go import ShuffledRewardToGo
from dtx.env.environment import Environment
from dtx.resources import Resources

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dtx.report import Page


@dataclass(frozen=True, kw_only=True)
class Calibration(CalibrationSpec, Analysis):
    """Ask for returns, act, and compare; ``conf/analysis/calibration.yaml`` explains the fields.

    Controls: the same model trained with returns that were shuffled over the demonstrations, whose return
    must differ less between targets; an untrained model, which must play as well as a uniformly random
    policy. Exact checks: the return of a behaviour clone is the same at every target, because each episode
    has the same random numbers there; and outcomes add up. A model that was not trained here has neither
    clone nor shuffled twin, so that nothing is established; its untrained twin is drawn on the spot.
    """

    version: ClassVar[int] = 2  # 1: verdicts without intervals, no model with shuffled returns

    question: ClassVar[str] = "Does the model achieve the return that it is asked for?"
    headline: ClassVar[tuple[str, ...]] = ("success_high", "return_low", "mae", "spearman")
    scoring: ClassVar[Scoring | None] = None

    env: Environment
    dataset: Dataset | None
    dt: ModelStage
    behaviour_clone: DecisionTransformer | None
    shuffled: DecisionTransformer | None
    untrained: DecisionTransformer | None

    def check(self) -> Iterator[tuple[str, str]]:
        """Targets and criteria fit, and controls are controls."""
        yield from super().check()
        if self.behaviour_clone and self.behaviour_clone.reward_to_go:
            yield "behaviour_clone", "is no control: it has reward_to_go"
        if self.shuffled and not isinstance(self.shuffled, ShuffledRewardToGo):
            yield "shuffled", "is no control: its returns are not shuffled"
        if self.untrained and self.untrained.steps:
            yield "untrained", f"is no control: it is trained for {self.untrained.steps} steps"

    def resources(self) -> Resources:
        """Episodes of every model at every target; those of one model are played together."""
        steered = self.episodes + self.greedy_episodes + 3 * self.control_episodes
        played = len(self.targets) * steered + 2 * self.episodes
        held = {"episodes": len(self.targets) * max(self.episodes, self.control_episodes) / 10}
        needed = self.dt.passing(played, None, held)
        return dataclasses.replace(
            needed, seconds=needed.seconds + 1e-4 * played * self.env.horizon
        )

    def compute(self) -> Result:
        """Play all models at all targets and hold the numbers against the criteria."""
        from dtx.analysis.calibration.compute import compute
        from dtx.dt.load import check_fits

        model = self.dt.load()
        check_fits(model, self.env, self.dt.label)
        windows = self.dt.trained_windows
        return compute(
            self,
            model,
            self.env,
            clone=self.behaviour_clone.load() if self.behaviour_clone else None,
            shuffled=self.shuffled.load() if self.shuffled else None,
            untrained=self.untrained.load() if self.untrained else None,
            episodes=self.dataset.load() if self.dataset else None,
            balance=windows.balance if windows else None,
        )

    def curves(self, result: Result) -> Iterator[tuple[str, int, float]]:
        """Mean return over the target of every model; the step is 100 times the target."""
        for row in result.tables["curve"].itertuples():
            if not math.isnan(row.target) and not math.isnan(row.mean_return):
                yield f"return by target/{row.model}", round(100 * row.target), row.mean_return

    def figures(self, result: Result) -> Iterator[tuple[str, Figure | Page]]:
        """``calibration``: the curve with its controls, outcomes, and the choice at the decision."""
        from dtx.analysis.calibration.plots import draw, page

        yield "calibration", draw(result, self.targets, self.support)
        yield "calibration", page(result)
