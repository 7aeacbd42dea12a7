"""A dataset of a Decision Transformer's own episodes, at declared targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from dtx.config.ranges import Count, NotEmpty, Number, Positive, Seed, ShareBelowOne
from dtx.dataset.dataset import (
    SECONDS_WITH_FACTS,
    SLOWER,
    Dataset,
    outcomes_in_words,
    report_outcomes,
)
from dtx.dt.model_stage import ModelStage
from dtx.env.environment import Environment
from dtx.errors import UserError
from dtx.resources import Resources

if TYPE_CHECKING:
    from dtx.dataset.episodes import EpisodeWriter
    from dtx.dataset.recording import Recording
    from dtx.dt.model import DecisionTransformerModel

GREEDY = 1e-6
"""The temperature that is recorded of greedy episodes, which sampling comes to as it falls."""


@dataclass(frozen=True, kw_only=True)
class PlayedEpisodes(Dataset):
    """Episodes of ``dt`` in ``env``; every value is explained in ``conf/dataset/played.yaml``."""

    env: Environment
    dt: ModelStage
    targets: Annotated[tuple[Number, ...], NotEmpty()]
    episodes: Count
    temperature: Positive
    greedy: bool
    environments: Count
    validation: ShareBelowOne
    seed: Seed
    facts: bool

    @property
    def environment(self) -> Environment:
        """Where the episodes were played."""
        return self.env

    @property
    def has_facts(self) -> bool:
        """Recorded ones, or those of a task that can be played again."""
        return self.facts or self.env.decision is not None

    @property
    def total(self) -> int:
        """Episodes at all targets."""
        return self.episodes * len(self.targets)

    def check(self) -> Iterator[tuple[str, str]]:
        """Each target once, episodes left to train on, and a model that can play there."""
        from dtx.dt.load import misfit

        if len(set(self.targets)) < len(self.targets):
            yield "targets", "one is there twice; raise episodes instead"
        if self.greedy and self.temperature != 1:
            yield "temperature", f"{self.temperature:g} changes no greedy action; leave it at 1"
        if round(self.validation * self.total) >= self.total:
            yield "validation", f"no episode of {self.total} is left to train on; lower it"
        try:
            sizes = self.dt.sizes
            wrong = None if sizes is None else misfit(sizes, self.env, plays=True)
        except UserError:  # the environment's own check says what is wrong with it
            return
        if wrong:
            yield "dt", f"the model {wrong}"

    def resources(self) -> Resources:
        """What the environments and contexts hold, and the episodes; one lasts half its limit."""
        steps = self.total * self.env.horizon / 2
        playing = min(self.environments, self.episodes) * len(self.targets)
        passing = self.dt.passing(steps / 3, None, {"environments, targets": min(playing, 128)})
        return Resources(
            memory={
                "episodes, targets": 60.0 * self.total,
                "environments and targets": playing * (20e3 + 160 * self.env.horizon),
                **passing.memory,
            },
            disk={"episodes, targets": 26.0 * self.total + (18 if self.facts else 9) * steps},
            seconds=passing.seconds + steps * (SECONDS_WITH_FACTS if self.facts else 2e-5),
        )

    def remark(self) -> str:
        """Where facts are recorded, that it is slower."""
        return SLOWER if self.facts else ""

    def run(self, out: Path) -> None:
        """Play and write the episodes. An interrupted run starts again and gives the same ones."""
        from dtx.dataset.episodes import EpisodeWriter
        from dtx.dt.load import check_fits
        from dtx.env.facts import StateTable
        from dtx.progress import progress
        from dtx.training.threads import one_thread

        model = self.dt.load()
        check_fits(model, self.env, self.dt.label)
        writer = EpisodeWriter(out, StateTable() if self.facts else None)
        with one_thread(), progress("played", self.total, "episodes") as bar:
            for block, begin in enumerate(range(0, self.episodes, self.environments)):
                count = min(self.environments, self.episodes - begin)
                self._play(model, writer, block, count)
                bar.advance(count * len(self.targets))
        metadata = {"env": self.env.id, "dt": self.dt.label, "dataset": self.label}
        writer.finish(self.validation, self.seed, metadata)
        report_outcomes(out)

    def _play(
        self, model: DecisionTransformerModel, writer: EpisodeWriter, block: int, count: int
    ) -> None:
        """Play ``count`` episodes at each target, in the same worlds with the same random numbers."""
        import numpy as np

        from dtx.dt.rollout import rollouts

        place = _Recorded(self.env, writer)
        played = rollouts(
            model,
            place,
            self.targets,
            episodes=count,
            seed=int(np.random.SeedSequence([self.seed, block]).generate_state(1)[0]),
            temperature=self.temperature,
            greedy=self.greedy,
        )
        temperature = GREEDY if self.greedy else self.temperature
        for target, one, recording in zip(self.targets, played, place.recordings, strict=True):
            writer.append(recording.steps, one.length, one.outcome, temperature, target)

    def summary(self) -> str:
        """Counts of outcomes."""
        return outcomes_in_words(self.path)


@dataclass
class _Recorded:
    """A place whose copies record what is played in them."""

    env: Environment
    writer: EpisodeWriter
    recordings: list[Recording] = field(default_factory=list)

    @property
    def horizon(self) -> int:
        """Steps allowed in an episode."""
        return self.env.horizon

    def vector(self, n: int, seed: int) -> Recording:
        """n copies."""
        from dtx.dataset.recording import Recording, copies

        self.recordings.append(
            Recording(*copies(self.env, n, seed, self.writer.worlds), self.writer)
        )
        return self.recordings[-1]
