"""Demonstrations: episodes of a trained agent, sampled at a mixture of temperatures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, ClassVar

from dtx.agent.agent import AgentStage
from dtx.config.ranges import Count, NotEmpty, Positive, PositiveShare, Seed, ShareBelowOne
from dtx.dataset.dataset import (
    SECONDS_WITH_FACTS,
    SLOWER,
    Dataset,
    outcomes_in_words,
    report_outcomes,
)
from dtx.env.environment import Environment
from dtx.resources import Resources
from dtx.stage import added


@dataclass(frozen=True, kw_only=True)
class Share:
    """A part of the mixture.

    Attributes:
        temperature: The agent's logits are divided by it before sampling; a small one is nearly greedy.
        share: Of the episodes.
    """

    temperature: Positive
    share: PositiveShare


@dataclass(frozen=True, kw_only=True)
class Rollouts(Dataset):
    """Episodes of ``agent`` in ``env``; every value is explained in ``conf/dataset/rollouts.yaml``."""

    version: ClassVar[int] = 1

    env: Environment
    agent: AgentStage
    episodes: Count
    mixture: Annotated[tuple[Share, ...], NotEmpty()]
    environments: Count
    validation: ShareBelowOne
    seed: Seed
    facts: bool = field(metadata=added(before=False))

    @property
    def environment(self) -> Environment:
        """Where the episodes were played."""
        return self.env

    @property
    def has_facts(self) -> bool:
        """Recorded ones, or those of a task that can be played again."""
        return self.facts or self.env.decision is not None

    def check(self) -> Iterator[tuple[str, str]]:
        """Shares that add up, and leave episodes to train on."""
        total = sum(part.share for part in self.mixture)
        if self.mixture and abs(total - 1) > 1e-6:
            yield "mixture", f"shares must add up to 1, not {total:g}"
        if round(self.validation * self.episodes) >= self.episodes:
            yield "validation", f"no episode of {self.episodes} is left to train on; lower it"

    def quotas(self) -> list[int]:
        """Episodes of each part of the mixture; they add up to ``episodes``."""
        edges, total = [0], 0.0
        for part in self.mixture:
            total += part.share
            edges.append(round(total * self.episodes))
        return [b - a for a, b in pairwise(edges)]

    def resources(self) -> Resources:
        """Nine bytes a step, and what the environments that play hold; an episode lasts half its limit."""
        steps = self.episodes * self.env.horizon / 2
        playing = self.environments * (20e3 + 160 * self.env.horizon)
        each = 18 if self.facts else 9
        return Resources(
            memory={"episodes": 60.0 * self.episodes, "environments": playing},
            disk={"episodes": 22.0 * self.episodes + each * steps},
            seconds=(SECONDS_WITH_FACTS if self.facts else 2e-5) * steps,
        )

    def remark(self) -> str:
        """Where facts are recorded, that it is slower."""
        return SLOWER if self.facts else ""

    def run(self, out: Path) -> None:
        """Play and write the episodes. An interrupted run starts again: it takes seconds."""
        from dtx.dataset.collect import collect
        from dtx.dataset.episodes import EpisodeWriter
        from dtx.env.facts import StateTable

        agent = self.agent.load()
        writer = EpisodeWriter(out, StateTable() if self.facts else None)
        temperatures = [part.temperature for part in self.mixture]
        collect(
            agent,
            self.env,
            writer,
            list(zip(temperatures, self.quotas(), strict=True)),
            environments=self.environments,
            seed=self.seed,
        )
        metadata = {"env": self.env.id, "agent": self.agent.label, "dataset": self.label}
        writer.finish(self.validation, self.seed, metadata)
        report_outcomes(out)

    def summary(self) -> str:
        """Counts of outcomes."""
        return outcomes_in_words(self.path)
