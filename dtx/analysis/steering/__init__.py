"""Can an edit at run time make the model do something else, and how much else does it change?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.of_model import OfModel
from dtx.analysis.core.parts import Parts, Problem
from dtx.analysis.core.result import Result
from dtx.analysis.steering.idle import beyond, idle, not_held_out
from dtx.analysis.steering.spec import SteeringSpec, problems_of
from dtx.dataset.dataset import Dataset
from dtx.env.environment import Environment
from dtx.pairs.declared import Declared
from dtx.resources import Resources

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Steering(SteeringSpec, OfModel):
    """Steer to each goal by each method, at each site and size; ``conf/analysis/steering.yaml`` explains it.

    *Success*: share of the goal's windows whose most probable action is the wanted one, at each
    reward-to-go apart. *Side effect*: KL(unsteered || steered), in nats, over windows where nothing may
    change. Site and size are chosen on training windows and judged on held-out ones and in the environment.

    An edit *asks for another reward-to-go* if one that is asked for in the window accounts for what it does
    to the residual stream and to the policy (:mod:`dtx.analysis.steering.asks`): a goal that is reached by
    such edits alone depends on that. Where reward-to-go is not read, or nothing is left to steer, a goal has
    no object. Control: random vectors of the same norms, at as many sites and sizes, chosen alike. Exact
    checks: size 0 changes nothing, in windows and in episodes, nor does an activation's own value; the whole
    difference between two windows' embeddings makes one the other; an edit that is computed from where it
    begins is the whole edited run.
    """

    version: ClassVar[int] = 2
    question: ClassVar[str] = "Can the model be steered, and what else changes?"
    headline: ClassVar[tuple[str, ...]] = (
        "*_reward_to_go_clamp_success",
        "*_optimised_success",
        "*_unsteered_success",
    )
    acts_in: ClassVar[str] = "env"
    plays: ClassVar[bool] = True
    cover: ClassVar[str] = "steering_rollouts"

    env: Environment
    dataset: Dataset | None
    pairs: Declared | None

    def check(self) -> Iterator[tuple[str, str]]:
        """Goals that can be had in this environment, the inputs that they need, and edits of something."""
        yield from super().check()
        yield from idle(self)
        yield from not_held_out(self, self.env.decision)
        if self.demonstrations and self.dataset is None:
            yield "dataset", "is needed for demonstrations; name it, or set demonstrations to 0"
        edits = tuple(self.pairs.edits) if self.pairs else None
        for name, goal in self.goals.items():
            for problem in problems_of(goal, self.env.decision, edits, type(self.env).__name__):
                yield f"goals.{name}", problem

    def misfits(self, sizes: Parts) -> Iterator[Problem]:
        """Methods of which the model has no site, and actions that it does not have."""
        yield from beyond(self, sizes)

    def resources(self) -> Resources:
        """Every vector at every site and size, random ones in its place, and episodes."""
        layouts = len(self.env.decision.layouts) if self.env.decision else 1
        sites = len(self.sites) + len(self.arithmetic) + len(self.descent.sites) + 1
        if self.clamp_parts and self.dt.sizes is not None:
            sites += self.dt.sizes.n_layers * (self.dt.sizes.n_heads + 1)
        windows = self.demonstrations + 10 * layouts
        # Random vectors are searched only for what reaches a goal, which few do.
        searched = sites * len(self.alphas) * (1 + self.controls / 4) * windows
        optimised = 3 * len(self.descent.sites) * self.descent.steps * (self.descent.kept + windows)
        played = len(self.methods) * len(self.compared) * layouts * self.episodes
        passes = len(self.goals) * (searched + optimised + played)
        held = {"demonstrations": windows, "episodes": layouts * self.episodes}
        steps = self.env.decision.step + 4 if self.env.decision else None
        return self.dt.passing(passes, steps, held)

    def compute(self) -> Result:
        """Steer, control, play, judge."""
        from dtx.analysis.steering.compute import compute

        model = self.model()
        pairs = self.pairs.load() if self.pairs else None
        episodes = self.dataset.load() if self.dataset else None
        return compute(self, model, self.env, pairs, episodes)

    def figures(self, result: Result) -> Iterator[tuple[str, Figure]]:
        """``steering``: success and side effect in windows. ``steering_rollouts``: what episodes show."""
        from dtx.analysis.steering.plots import rollouts, windows

        yield "steering", windows(result, self)
        yield "steering_rollouts", rollouts(result, self)
