"""Demonstrations: episodes of a trained agent, sampled at a mixture of temperatures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, ClassVar

from dtx.agent.agent import AgentStage
from dtx.config.ranges import Count, NotEmpty, Positive, PositiveShare, Seed, ShareBelowOne
from dtx.dataset.dataset import Dataset
from dtx.env.environment import Environment
from dtx.report import Report, read_metrics
from dtx.resources import Resources


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

    @property
    def environment(self) -> Environment:
        """Where the episodes were played."""
        return self.env

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
        return Resources(
            memory={"episodes": 60.0 * self.episodes, "environments": playing},
            disk={"episodes": 22.0 * self.episodes + 9 * steps},
            seconds=2e-5 * steps,
        )

    def run(self, out: Path) -> None:
        """Play and write the episodes. An interrupted run starts again: it takes seconds."""
        from dtx.dataset.collect import collect
        from dtx.dataset.episodes import EpisodeWriter

        agent = self.agent.load()
        writer = EpisodeWriter(out)
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
        self._report(Report(out), out)

    def summary(self) -> str:
        """Counts of outcomes."""
        n = read_metrics(self.path)
        return (
            f"{n['data/n_episodes']:,.0f} episodes: {n['data/n_success']:,.0f} success, "
            f"{n['data/n_wrong']:,.0f} wrong, {n['data/n_truncated']:,.0f} truncated; "
            f"{n['data/n_unique_obs']:.0f} distinct observations"
        )

    def _report(self, report: Report, out: Path) -> None:
        import numpy as np

        from dtx.dataset.episodes import Episodes, Outcome

        episodes = Episodes.read(out)
        counts = np.bincount(episodes.outcome, minlength=3)
        report.headline(
            {
                "data/n_episodes": len(episodes.start),
                "data/n_steps": len(episodes.action),
                "data/n_unique_obs": len(episodes.observations),
                **{f"data/n_{o.name.lower()}": int(counts[o]) for o in Outcome},
            }
        )
