"""The demonstrations before any model: outcomes, an audit of reward-to-go and windows, duplication."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.result import Result
from dtx.analysis.core.scoring import Scoring
from dtx.config.ranges import Count, Seed
from dtx.dataset.dataset import Dataset
from dtx.dt.decision_transformer import DecisionTransformer
from dtx.env.environment import Environment
from dtx.errors import UserError
from dtx.resources import Resources

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dtx.report import Page


@dataclass(frozen=True, kw_only=True)
class Demonstrations(Analysis):
    """Look at the data before any model; ``conf/analysis/demonstrations.yaml`` explains the fields.

    Beside the shares of outcomes stand those of the MemoryDT study. Exact checks: a success is worth
    1 - 0.9 t / max_steps, counts add up, every reward-to-go is the sum of the rewards from there on, every
    window matches a slow reference implementation, with either padding.
    """

    question: ClassVar[str] = "What do the demonstrations hold, and are their windows right?"
    headline: ClassVar[tuple[str, ...]] = (
        "success_share",
        "unique_episodes",
        "split_overlap_episodes",
        "audit_passed",
    )
    scoring: ClassVar[Scoring | None] = None

    dataset: Dataset
    dt: DecisionTransformer
    audited_windows: Count
    seed: Seed

    def check(self) -> Iterator[tuple[str, str]]:
        """The step limit of the episodes is known."""
        if self.dataset.environment is None:
            yield "dataset", "does not say in which environment its episodes were played"

    def resources(self) -> Resources:
        """Every window that is audited, with its one-hot observations, twice."""
        steps = self.audited_windows * self.dt.windows.context
        return Resources(
            memory={"audited_windows": 2e3 * steps},
            disk={"audited_windows": 5e6},
            seconds=1 + 1e-5 * steps,
        )

    def compute(self) -> Result:
        """Count, audit, and look for repetitions."""
        from dtx.analysis.demonstrations.compute import compute

        cfg, windows = self.dt.model_config(), self.dt.windows
        return compute(
            self.dataset.load(),
            self._environment.horizon,
            cfg,
            windows,
            audited=self.audited_windows,
            seed=self.seed,
        )

    def figures(self, result: Result) -> Iterator[tuple[str, Figure | Page]]:
        """``demonstrations``: length and return of all episodes, as PNG and as HTML."""
        from dtx.analysis.demonstrations.plots import draw, page

        yield "demonstrations", draw(result, self._environment.horizon)
        yield "demonstrations", page(result, self._environment.horizon)

    @property
    def _environment(self) -> Environment:
        env = self.dataset.environment
        if env is None:
            raise UserError(f"dataset: {self.dataset.label} does not name its environment")
        return env
