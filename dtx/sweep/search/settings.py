"""The fields of ``conf/hydra/sweeper/optuna.yaml``; named as those of Hydra's own Optuna sweeper."""

from __future__ import annotations

import abc
import enum
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dtx.config.ranges import Count, Natural, Seed

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler


class Direction(enum.Enum):
    """Which values are better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


@dataclass(frozen=True, kw_only=True)
class Sampler(abc.ABC):
    """How values are suggested."""

    seed: Seed

    @abc.abstractmethod
    def make(self, number: int) -> BaseSampler:
        """Optuna's sampler for the trial of a number.

        It draws from its own random numbers for each trial: a study that goes on after a kill suggests what
        it would have suggested without.
        """

    def of_trial(self, number: int) -> int:
        """The seed of one trial."""
        return zlib.crc32(f"{self.seed} {number}".encode())


@dataclass(frozen=True, kw_only=True)
class TPE(Sampler):
    """Tree-structured Parzen estimator; random for the first trials."""

    n_startup_trials: Natural

    def make(self, number: int) -> BaseSampler:
        """Optuna's TPESampler."""
        from optuna.samplers import TPESampler

        seed = self.of_trial(number)
        return TPESampler(seed=seed, n_startup_trials=self.n_startup_trials)


@dataclass(frozen=True, kw_only=True)
class Random(Sampler):
    """Independent draws."""

    def make(self, number: int) -> BaseSampler:
        """Optuna's RandomSampler."""
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=self.of_trial(number))


@dataclass(frozen=True, kw_only=True)
class Pruner(abc.ABC):
    """When a trial ends early, by a curve that one of its stages writes while it runs.

    Attributes:
        stage: The stage's place in the config: ``dt``.
        curve: A name in its ``curves.jsonl``.
        direction: Of the curve.
    """

    stage: str
    curve: str
    direction: Direction

    @abc.abstractmethod
    def make(self) -> BasePruner:
        """Optuna's pruner."""


@dataclass(frozen=True, kw_only=True)
class Median(Pruner):
    """Worse than the median of the complete trials at the same step."""

    n_startup_trials: Natural
    n_warmup_steps: Natural

    def make(self) -> BasePruner:
        """Optuna's MedianPruner."""
        from optuna.pruners import MedianPruner

        return MedianPruner(self.n_startup_trials, self.n_warmup_steps)


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """What is searched for, and how; ``conf/hydra/sweeper/optuna.yaml`` explains the fields."""

    metric: str
    direction: Direction
    n_trials: Count
    n_jobs: Count
    study_name: str | None
    storage: str | None
    params: dict[str, Any]
    sampler: Sampler
    pruner: Pruner | None

    def check(self) -> Iterator[tuple[str, str]]:
        """A metric is named in full."""
        if "/" not in self.metric:
            yield "metric", f"a full name is wanted, as calibration/mae, not {self.metric!r}"
        if self.study_name is not None and not self.study_name.strip():
            yield "study_name", "needs a name; null: one that follows from what is searched"
