"""Demonstrations that others recorded, from a Minari dataset."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dtx.dataset.dataset import Dataset
from dtx.env.environment import Environment
from dtx.exchange.published.source import check_digest
from dtx.report import Report, read_metrics
from dtx.stage import RUNTIME


@dataclass(frozen=True, kw_only=True)
class Minari(Dataset):
    """Converts the dataset to our files; conf/dataset/minari.yaml says what each field means.

    Beside them it keeps what only Minari's format holds (dtx/dataset/minari/files.py), so that
    ``dtx export`` gives the same episodes back.
    """

    id: str
    root: Path | None = field(metadata=RUNTIME)
    download: bool = field(metadata=RUNTIME)
    digest: str | None
    env: Environment
    validation: float
    seed: int

    @property
    def environment(self) -> Environment:
        """Where the episodes were played."""
        return self.env

    def check(self) -> Iterator[tuple[str, str]]:
        """Ranges, and the form of an id."""
        if problem := wrong_id(self.id):
            yield "id", problem
        if self.digest is not None:
            yield from check_digest(self.digest)
        if not 0 <= self.validation < 1:
            yield "validation", "must be at least 0 and below 1"
        if self.seed < 0:
            yield "seed", "must be 0 or more"

    def run(self, out: Path) -> None:
        """Write the three files of a dataset, and what Minari's format has beside them."""
        from dtx.dataset.minari.read import write

        Report(out).headline(write(self, out))

    def summary(self) -> str:
        """Counts of outcomes; where it was recorded, if that is not the config's environment."""
        from dtx.dataset.minari.files import read_facts

        n, facts = read_metrics(self.path), read_facts(self.path)
        text = (
            f"Minari {self.id}: {n['data/n_episodes']:,.0f} episodes: {n['data/n_success']:,.0f} success, "
            f"{n['data/n_wrong']:,.0f} wrong, {n['data/n_truncated']:,.0f} truncated; "
            f"{n['data/n_unique_obs']:,.0f} distinct observations; digest {facts['digest'][:12]}"
        )
        if facts["env"] is None:
            return f"{text}; it does not say in which environment it was recorded"
        if facts["env"] != self.env.id:
            text += (
                f"; recorded in {facts['env']}, but analyses that play would play env={self.env.id}: "
                f"choose the environment that belongs to it ({choice_of(facts['env'])})"
            )
        return text


def wrong_id(name: str) -> str | None:
    """What is wrong with a Minari id; None if nothing is."""
    if re.fullmatch(r"([-\w]+/)*[-\w]+-v\d+", name):
        return None
    return (
        f"{name!r} is no Minari id: NAME-vNUMBER, with namespaces before it (minigrid/fourrooms-v0)"
    )


def choice_of(env: str) -> str:
    """Overrides that choose the environment of a Gymnasium id."""
    if found := re.fullmatch(r"dtx/MemoryS(\d+)FixedStart-v0", env):
        return f"env=memory env.size={found[1]}"
    if found := re.fullmatch(r"MiniGrid-Dynamic-Obstacles(-Random)?-(\d+)x\2-v0", env):
        start = " env.random_start=true" if found[1] else ""
        return f"env=dynamic_obstacles env.size={found[2]}{start}"
    return f"env=minigrid env.id={env}"
