"""Does the model count the steps that are left, and is it calibrated because of that?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.analysis import Analysis, Need
from dtx.analysis.core.result import Result
from dtx.analysis.core.scoring import Scoring
from dtx.analysis.countdown.spec import CountdownSpec
from dtx.config.ranges import Natural
from dtx.dataset.dataset import Dataset
from dtx.dt.model_stage import ModelStage
from dtx.env.environment import Environment

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Countdown(CountdownSpec, Analysis):
    """Steps left, as reward-to-go and the clock say; ``conf/analysis/countdown.yaml`` explains the fields.

    A target return names a number of steps where successes are worth less the longer they take; *steps
    left* are those without the steps since the start. Three questions: do reward-to-go and the clock (time
    embedding and place in the window) move the policy alike, step for step; from which block on is that in
    the last state's stream; and do episodes of a model whose clock is reset end as much earlier or later?
    Beside it, linear probes. Control: untrained models on the same windows, whom reward-to-go moves less.
    Exact checks: successes have the steps that their return names; a patch after the last block is all of
    the other run; one of reward-to-go before the first block is nothing of it.
    """

    question: ClassVar[str] = "Does the model count the steps that are left?"
    needs: ClassVar[Mapping[str, Need]] = {"env": Need.DECISION}
    scoring: ClassVar[Scoring | None] = None  # no model whose clock is known is compiled yet

    env: Environment
    dataset: Dataset
    dt: ModelStage
    checkpoint: Natural | None

    def check(self) -> Iterator[tuple[str, str]]:
        """Clocks that an episode can have."""
        yield from super().check()
        for name in ("shifts", "offsets"):
            for steps in getattr(self, name):
                if abs(steps) >= self.env.horizon:
                    longest = self.env.horizon
                    yield name, f"{steps} steps fit in no episode, which lasts at most {longest}"

    def compute(self) -> Result:
        """Play, change steps left in the model's own states, patch, reset the clock, probe."""
        from dtx.analysis.countdown.compute import compute
        from dtx.dt.load import load_at

        model = load_at(self.dt, self.checkpoint, self.env, plays=True)
        decision = self.env.decision
        assert decision is not None  # see needs
        return compute(self, model, self.env, decision, self.dataset.load())

    def figures(self, result: Result) -> Iterator[tuple[str, Figure]]:
        """``countdown``: changes by shift, rho by block, lengths with every clock, probes."""
        from dtx.analysis.countdown.plots import draw

        yield "countdown", draw(result)
