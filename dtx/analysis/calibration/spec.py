"""The settings of a calibration; ``conf/analysis/calibration.yaml`` explains them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from dtx.config.ranges import (
    Correlation,
    Count,
    Natural,
    NonNegative,
    Number,
    Positive,
    Seed,
    Share,
)


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """What a steered model must do; ``conf/analysis/calibration.yaml`` explains the fields."""

    identity_name: ClassVar[str] = "dtx.analysis.calibration.Criteria"

    high: Number
    min_success: Share
    low: Number
    max_above_failing: NonNegative
    min_wrong_layouts: Share
    max_from_demonstrations: Share
    min_spearman: Correlation
    max_from_chance: NonNegative
    max_distance: Positive

    def check(self) -> Iterator[tuple[str, str]]:
        """The high target is above the low one."""
        if self.high <= self.low:
            yield "high", f"{self.high:g} must be above the low target, {self.low:g}"


@dataclass(frozen=True, kw_only=True)
class CalibrationSpec:
    """What is asked for, how much is played, and what is wanted."""

    targets: tuple[Number, ...]
    episodes: Count
    greedy_episodes: Count
    control_episodes: Count
    temperature: Positive
    support: Natural
    criteria: Criteria
    seed: Seed

    def check(self) -> Iterator[tuple[str, str]]:
        """A curve, and criteria at two of its targets."""
        if len(set(self.targets)) < 2:
            yield "targets", "a curve needs at least two different targets"
        for name, target in (("low", self.criteria.low), ("high", self.criteria.high)):
            if target not in self.targets:
                yield f"criteria.{name}", f"{target:g} must be one of the targets"


DT, GREEDY, CLONE, SHUFFLED, UNTRAINED, RANDOM, FAILING = (
    "decision transformer",
    "decision transformer, greedy",
    "behaviour clone",
    "trained with shuffled returns",
    "untrained",
    "uniformly random",
    "failing demonstrations",
)
"""Names of the models in the tables."""
RECORDED, TRAINED_ON = "demonstrations, as recorded", "demonstrations, as trained on"
"""Other sources in the table ``decision``: the demonstrations, as they are or weighted as in training."""
