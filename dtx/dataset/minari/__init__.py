"""Demonstrations that others recorded, from a Minari dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dtx.dataset.dataset import Dataset
from dtx.dataset.minari.ids import choice_of, wrong_id
from dtx.dataset.minari.spec import MinariSpec
from dtx.env.environment import Environment
from dtx.exchange.published.source import check_digest
from dtx.report import Report, read_metrics


@dataclass(frozen=True, kw_only=True)
class Minari(MinariSpec, Dataset):
    """Convert a Minari dataset to our files; conf/dataset/minari.yaml explains each field.

    It also keeps what only Minari's format holds (dtx/dataset/minari/files.py), so that
    ``dtx export`` gives the same episodes back.
    """

    @property
    def environment(self) -> Environment:
        """Where the episodes were played."""
        return self.env

    def check(self) -> Iterator[tuple[str, str]]:
        """The form of an id and of a digest."""
        if problem := wrong_id(self.id):
            yield "id", problem
        if self.digest is not None:
            yield from check_digest(self.digest)

    def run(self, out: Path) -> None:
        """Write the three files of a dataset, and what Minari's format has beside them."""
        from dtx.dataset.minari.read import write

        Report(out).headline(write(self, out, self.label))

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
