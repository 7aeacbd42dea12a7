"""Animations of what the model does at chosen rewards-to-go, with the probabilities of its actions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.of_model import OfModel
from dtx.analysis.core.result import Result
from dtx.analysis.core.scoring import Scoring
from dtx.analysis.videos.spec import VideosSpec
from dtx.env.environment import Environment
from dtx.resources import Resources

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dtx.report import Animation


@dataclass(frozen=True, kw_only=True)
class Videos(VideosSpec, OfModel):
    """Episodes at each reward-to-go in the same worlds; ``conf/analysis/videos.yaml`` explains the fields.

    They show what happens; how often it does is measured by calibration. Exact checks: the recorded actions,
    taken again in fresh worlds, give the same worlds, rewards and probabilities; probabilities add up to 1;
    where the environment has layouts, the episodes are those that every other analysis plays. Control: how
    sure of its actions the model is, against untrained models in the same states.
    """

    question: ClassVar[str] = "What does the model do at each reward-to-go?"
    headline: ClassVar[tuple[str, ...]] = ("return_low", "return_high", "confidence")
    scoring: ClassVar[Scoring | None] = None
    acts_in: ClassVar[str] = "env"
    plays: ClassVar[bool] = True

    env: Environment

    def check(self) -> Iterator[tuple[str, str]]:
        """The layouts are there."""
        yield from super().check()
        if self.env.decision is not None:
            count = len(self.env.decision.layouts)
            if wrong := [number for number in self.layouts if number >= count]:
                yield "layouts", f"layouts have the numbers 0 to {count - 1}; {wrong[0]} is none"

    def resources(self) -> Resources:
        """One episode a layout and target: played, played again, and by the untrained models."""
        episodes = len(self.targets) * len(self.layouts)
        return self.dt.passing(8 * episodes * self.env.horizon, None, {"targets": episodes})

    def compute(self) -> Result:
        """Play and record."""
        from dtx.analysis.videos.compute import compute

        return compute(self, self.model(), self.env)

    def figures(self, result: Result) -> Iterator[tuple[str, Figure | Animation]]:
        """``videos``: the first layout as an animation and as a film strip; ``videos_2`` the second ..."""
        from dtx.analysis.videos.plots import Film

        for number, layout in enumerate(result.tables["ends"].layout.unique(), 1):
            film = Film(result, layout)
            name = "videos" if number == 1 else f"videos_{number}"
            yield name, film.strip()
            yield name, film
