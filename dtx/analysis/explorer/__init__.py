"""The explorer as one HTML file that plays without a server: figures/explorer.html."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.of_model import OfModel
from dtx.analysis.core.parts import Parts, Problem
from dtx.analysis.core.result import Result
from dtx.analysis.core.scoring import Scoring
from dtx.analysis.explorer.spec import ExplorerSpec
from dtx.dataset.dataset import Dataset
from dtx.dt.load import misfit
from dtx.dt.model_stage import ModelStage
from dtx.env.actions import ACTIONS
from dtx.env.environment import Environment
from dtx.errors import UserError
from dtx.resources import Resources

if TYPE_CHECKING:
    from dtx.report import Page

PANELS = Path(__file__).parents[2] / "app/panels"


@dataclass(frozen=True, kw_only=True)
class Explorer(ExplorerSpec, OfModel):
    """One file to play, edit and compare models; ``conf/analysis/explorer.yaml`` explains the fields.

    It measures nothing of the model. Exact checks: random walks through the tables of the worlds are those of
    minigrid itself, and the precision of the weights changes logits by no more than the page allows. The page
    computes PyTorch's logits of 32 windows a model again when it is opened and says by how much it misses.
    """

    question: ClassVar[str] = (
        "What does the model do where you choose the steps, the worlds and the edits?"
    )
    headline: ClassVar[tuple[str, ...]] = ("states", "windows", "megabytes")
    scoring: ClassVar[Scoring | None] = None
    acts_in: ClassVar[str] = "env"

    env: Environment
    dataset: Dataset | None
    compared: tuple[ModelStage, ...]

    def check(self) -> Iterator[tuple[str, str]]:
        """Worlds, edits and panels are there, and worlds can be tables."""
        yield from super().check()
        env, name = self.env, type(self.env).__name__
        for place, action in (("pos", self.contrast.pos), ("neg", self.contrast.neg)):
            if action not in ACTIONS[: env.n_actions]:
                yield f"contrast.{place}", f"{action} is no action of {name}"
        if len(self.compared) > 3:
            yield "compared", "at most three beside the first model are shown side by side"
        known = {path.stem for path in PANELS.glob("[a-z]*.py")}
        for panel in self.frozen:
            if panel not in known:
                yield "frozen", f"no panel {panel!r}; there are {', '.join(sorted(known))}"
        yield from self._worlds()

    def _worlds(self) -> Iterator[tuple[str, str]]:
        from dtx.pairs.edits import problems
        from dtx.pairs.worlds import name_problems

        if self.edits and self.env.roles is None:
            yield (
                "edits",
                f"{type(self.env).__name__} does not say which things have which role; give {{}}",
            )
        elif self.edits:
            for place, problem in problems(self.edits, self.env):
                yield place, problem
        for problem in name_problems(self.env, self.worlds):
            yield "worlds", problem
        if (wrong := _random(self.env)) is not None:
            yield "env", wrong

    def missing(self) -> Iterator[tuple[str, str]]:
        """What models cannot give, as far as their config says so."""
        yield from super().missing()
        kept = self.dt.kept_steps
        for step in self.checkpoints:
            if kept is not None and step not in kept:
                known = ", ".join(map(str, sorted(kept))) or "none"
                yield "checkpoints", f"step {step} is not kept (kept: {known})"
        for i, stage in enumerate(self.compared):
            if stage.sizes is not None and (wrong := misfit(stage.sizes, self.env, plays=False)):
                yield f"compared[{i}]", f"the model {wrong}"

    def misfits(self, sizes: Parts) -> Iterator[Problem]:
        """Nothing that sizes say: what a model's encoder is stands in its files alone."""
        yield from ()

    def resources(self) -> Resources:
        """Worlds as tables: a millisecond an action of each state; of how many states is not known before."""
        models = 1 + len(self.compared) + len(self.checkpoints)
        return Resources(seconds=20.0 + 2.0 * models)

    def compute(self) -> Result:
        """Make tables of the worlds, gather weights and PyTorch's logits."""
        from dtx.analysis.explorer.compute import compute

        stages = [self.dt, *self.compared]
        return compute(
            self,
            self.env,
            [(stage.label, stage.path) for stage in stages],
            self.checkpoint,
            None if self.dataset is None else self.dataset.load(),
        )

    def figures(self, result: Result) -> Iterator[tuple[str, Page]]:
        """``explorer``: the file."""
        from dtx.analysis.explorer.page import File

        yield "explorer", File(result)


def _random(env: Environment) -> str | None:
    """Why worlds of an environment are no tables, if their first step already tells."""
    from dtx.app.file.tables import INSTEAD, draws_lots
    from dtx.env.roles import world_of

    try:
        made = env.make()
    except UserError:  # the environment's own check says what is wrong with it
        return None
    made.reset(seed=0)
    if draws_lots(world_of(made), env.n_actions):
        return f"what an action does in {type(env).__name__} is random, so no table holds it; {INSTEAD}"
    return None
