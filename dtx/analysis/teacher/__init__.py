"""How far a model's policy is from its teacher's, and which temperature of the teacher it simulates."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.agent.agent import AgentStage
from dtx.analysis.core.of_model import OfModel
from dtx.analysis.core.result import Result
from dtx.analysis.teacher.spec import TeacherSpec
from dtx.dataset.dataset import Dataset
from dtx.resources import Resources

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Teacher(TeacherSpec, OfModel):
    """Teacher and model at the states of demonstrations; ``conf/analysis/teacher.yaml`` explains the fields.

    Controls: an n-gram model of actions, which sees no observation, and the architecture untrained.
    Exact check: the divergence of a policy from itself is 0.
    """

    question: ClassVar[str] = "How close is the model to the agent that gave its demonstrations?"
    headline: ClassVar[tuple[str, ...]] = ("dt_kl_t1", "dt_agreement", "n_gram_agreement", "moved")

    dataset: Dataset
    agent: AgentStage

    def resources(self) -> Resources:
        """Every episode once a target and policy, and a table of what follows n actions."""
        asked = self.episodes * (1 + len(self.targets))
        needed = self.dt.passing(2 * asked, None, {"episodes": self.episodes / 4})
        actions = 7 if self.dt.sizes is None else self.dt.sizes.n_actions
        table = 8.0 * actions * (actions + 1.0) ** min(self.n_gram, 200)
        return dataclasses.replace(needed, memory={**needed.memory, "n_gram": table})

    def compute(self) -> Result:
        """Replay held-out episodes and compare the policies along them."""
        from dtx.analysis.teacher.compute import compute

        model = self.model()
        return compute(self, model, self.agent.load(), self.dataset.load())

    def figures(self, result: Result) -> Iterator[tuple[str, Figure]]:
        """``teacher``: agreement, divergence, and likelihood under the teacher by reward-to-go."""
        from dtx.analysis.teacher.plots import draw

        yield "teacher", draw(result, self.temperatures)
