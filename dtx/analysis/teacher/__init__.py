"""How far a model's policy is from its teacher's, and which temperature of the teacher it simulates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.agent.agent import AgentStage
from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.result import Result
from dtx.analysis.teacher.spec import TeacherSpec
from dtx.config.ranges import Natural
from dtx.dataset.dataset import Dataset
from dtx.dt.model_stage import ModelStage

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Teacher(TeacherSpec, Analysis):
    """Teacher and model at the states of demonstrations; ``conf/analysis/teacher.yaml`` explains the fields.

    Controls: an n-gram model of actions, which sees no observation, and the architecture untrained.
    Exact check: the divergence of a policy from itself is 0.
    """

    question: ClassVar[str] = "How close is the model to the agent that gave its demonstrations?"

    dataset: Dataset
    agent: AgentStage
    dt: ModelStage
    checkpoint: Natural | None

    def compute(self) -> Result:
        """Replay held-out episodes and compare the policies along them."""
        from dtx.analysis.teacher.compute import compute
        from dtx.dt.load import load_at

        model = load_at(self.dt, self.checkpoint)
        return compute(self, model, self.agent.load(), self.dataset.load())

    def figures(self, result: Result) -> Iterator[tuple[str, Figure]]:
        """``teacher``: agreement, divergence, and likelihood under the teacher by reward-to-go."""
        from dtx.analysis.teacher.plots import draw

        yield "teacher", draw(result, self.temperatures)
