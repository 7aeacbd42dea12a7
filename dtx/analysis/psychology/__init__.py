"""How the model decides: what is routine, where it decides, how sure it is, whether it looks back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.analysis import Need
from dtx.analysis.core.of_model import OfModel
from dtx.analysis.core.result import Result
from dtx.analysis.psychology.spec import PsychologySpec
from dtx.env.decision import Decision
from dtx.env.environment import Environment
from dtx.resources import Resources

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from dtx.analysis.core.answers import Subject


@dataclass(frozen=True, kw_only=True)
class Psychology(PsychologySpec, OfModel):
    """The policy in every pose that fits the context; ``conf/analysis/psychology.yaml`` explains the fields.

    A *pose* is a cell and a direction, reached by its shortest actions from the start; *on the routine* are
    those on the scripted way to success. A *decision pose* is one where the policies of layouts that ask
    for different turns differ: mean Jensen-Shannon divergence (nats, at most ln 2) over a threshold; its
    cell is a *decision square*. A decision is *cached* if the model walks on after a turn that was forced
    to the wrong side, where it decides at all. A *look-back* is an episode that faces back along the corridor
    at some time. Controls: the same architecture untrained, by the same statistic; a policy that cannot tell
    layouts apart; the other layouts of a look-back. Claims about reward-to-go have no object where it does
    not change the decision. Exact checks: probabilities add up to 1, and the policy of a layout does not
    diverge from itself.
    """

    version: ClassVar[int] = 3  # since every claim has a control that can fail
    question: ClassVar[str] = "Where does the model decide, and how sure is it?"
    headline: ClassVar[tuple[str, ...]] = (
        "routine_share_high",
        "decision_squares_high",
        "entropy_high_on",
        "non_kinetic_high",
    )
    acts_in: ClassVar[str] = "env"
    plays: ClassVar[bool] = True
    needs: ClassVar[Mapping[str, Need]] = {"env": Need.DECISION}
    cover: ClassVar[str] = "state_map"

    env: Environment

    def resources(self) -> Resources:
        """Episodes at every target, which share most contexts, and every pose in every model."""
        layouts = len(self.env.decision.layouts) if self.env.decision else 1
        played = len(self.targets) * layouts * self.episodes
        posed = 100 * layouts * len(self.targets)
        return self.dt.passing(
            played / 10 + posed / 40 * (1 + self.untrained), None, {"episodes": played / 10}
        )

    def compute(self) -> Result:
        """Compute the policies of the model and of untrained ones in all poses, then play."""
        from dtx.analysis.psychology.compute import compute

        model = self.model()
        return compute(self, model, self._decision)

    def answers(self, subject: Subject) -> Iterable[pd.DataFrame]:
        """The decision squares of a known model."""
        from dtx.analysis.psychology.truth import answers

        return answers(subject, self.high, self._decision.step, self.threshold)

    def figures(self, result: Result) -> Iterator[tuple[str, Figure]]:
        """``state_map``: the policy on the grid. ``psychology``: how it changes with reward-to-go."""
        from dtx.analysis.psychology.plots import curves, state_map

        yield "state_map", state_map(result, self.low, self.high, self.threshold)
        yield "psychology", curves(result, self.low, self.high, self.threshold)

    @property
    def _decision(self) -> Decision:
        decision = self.env.decision
        assert decision is not None  # see needs
        return decision
