"""Does the model count the steps that are left, and is it calibrated because of that?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.analysis import Need
from dtx.analysis.core.of_model import OfModel
from dtx.analysis.core.result import Result
from dtx.analysis.core.scoring import Scoring
from dtx.analysis.countdown.spec import CountdownSpec
from dtx.dataset.dataset import Dataset
from dtx.env.environment import Environment
from dtx.resources import Resources

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Countdown(CountdownSpec, OfModel):
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
    headline: ClassVar[tuple[str, ...]] = (
        "largest_slope",
        "largest_followed",
        "greedy_distance",
        "sampled_distance",
    )
    acts_in: ClassVar[str] = "env"
    plays: ClassVar[bool] = True
    needs: ClassVar[Mapping[str, Need]] = {"env": Need.DECISION}
    scoring: ClassVar[Scoring | None] = None  # no model whose clock is known is compiled yet

    env: Environment
    dataset: Dataset

    def resources(self) -> Resources:
        """Episodes with every clock, which share most contexts; patches of states, and probes."""
        layouts = len(self.env.decision.layouts) if self.env.decision else 1
        clocks = len(self.curve_targets) * (1 + len(self.offsets))
        changed = self.states * len(self.targets)
        played = len(self.targets) * layouts * self.episodes + clocks * (
            self.curve_episodes + layouts + self.untrained * self.control_episodes
        )
        patched = changed * len(self.shifts) * 10 * (1 + self.untrained)
        held = {
            "episodes": len(self.targets) * layouts * self.episodes / 30,
            "curve_episodes": len(self.curve_targets) * self.curve_episodes / 30,
            "states": changed / 4,
            "probed": self.probed / 15,
        }
        return self.dt.passing(played + patched + 2 * self.probed, None, held)

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

        model = self.model()
        decision = self.env.decision
        assert decision is not None  # see needs
        return compute(self, model, self.env, decision, self.dataset.load())

    def figures(self, result: Result) -> Iterator[tuple[str, Figure]]:
        """``countdown``: changes by shift, rho by block, lengths with every clock, probes."""
        from dtx.analysis.countdown.plots import draw

        yield "countdown", draw(result)
