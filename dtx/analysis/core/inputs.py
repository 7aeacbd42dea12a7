"""Windows that an analysis looks at: at the decision, for each reward-to-go, and of the demonstrations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from dtx.config.ranges import Count, NotEmpty, Number, Seed
from dtx.dataset.dataset import Dataset
from dtx.env.actions import Action
from dtx.env.environment import Environment

if TYPE_CHECKING:
    import pandas as pd

    from dtx.dt.context import Context
    from dtx.dt.model import DecisionTransformerModel


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """The logit difference that is explained: logit[pos] - logit[neg] at the last state token."""

    identity_name: ClassVar[str] = "dtx.analysis.inputs.Contrast"

    pos: Action
    neg: Action

    def check(self) -> Iterator[tuple[str, str]]:
        """Two different actions."""
        if self.pos is self.neg:
            yield "neg", f"{self.neg.value} is compared with itself; choose another action"

    def __str__(self) -> str:
        return f"{self.pos.value} - {self.neg.value}"


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Which windows; ``conf/analysis/attribution.yaml`` explains the fields."""

    identity_name: ClassVar[str] = "dtx.analysis.inputs.Inputs"

    env: Environment
    dataset: Dataset
    targets: Annotated[tuple[Number, ...], NotEmpty("needs at least one reward-to-go")]
    count: Count
    seed: Seed

    @property
    def number(self) -> int:
        """How many windows :meth:`deciding` gives."""
        decision = self.env.decision
        return self.count if decision is None else len(decision.layouts) * len(self.targets)

    @property
    def steps(self) -> int | None:
        """How long they are; None: as long as the model's longest."""
        decision = self.env.decision
        return None if decision is None else decision.step + 1

    def deciding(self, model: DecisionTransformerModel) -> tuple[Context, pd.DataFrame]:
        """Windows whose last state is where something is decided.

        Where the environment has a decision: every layout at every target, the routine followed up to
        there. Elsewhere: windows of the demonstrations, as recorded.

        Returns:
            The windows, and one row a window: window, layout ("" where there are none), target.
        """
        from dtx.analysis.core.windows import at_decision

        if self.env.decision is None:
            return self.demonstrated(model)
        return at_decision(model, self.env.decision, self.targets)

    def demonstrated(self, model: DecisionTransformerModel) -> tuple[Context, pd.DataFrame]:
        """Windows of the training episodes that end at a real step; see :meth:`deciding`."""
        from dtx.analysis.core.windows import demonstrated

        return demonstrated(self.dataset.load(), model.cfg, self.count, self.seed)
