"""Published trajectories, as `dtx import --unsafe-pickle` puts them into the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dtx.config.ranges import Seed, ShareBelowOne
from dtx.dataset.dataset import Dataset
from dtx.env.environment import Environment
from dtx.errors import UserError
from dtx.exchange.published.source import check_digest, verified
from dtx.report import Report, read_metrics
from dtx.stage import RUNTIME


@dataclass(frozen=True, kw_only=True)
class Imported(Dataset):
    """Convert trajectories to our files; conf/dataset/imported.yaml explains each field."""

    env: Environment = field(metadata=RUNTIME)
    file: Path | None = field(metadata=RUNTIME)
    digest: str
    unsafe_pickle: bool = field(metadata=RUNTIME)
    validation: ShareBelowOne
    seed: Seed

    @property
    def environment(self) -> Environment:
        """Where the episodes were played."""
        return self.env

    def check(self) -> Iterator[tuple[str, str]]:
        """The form of the digest."""
        yield from check_digest(self.digest)

    def run(self, out: Path) -> None:
        """Write the three files of a dataset."""
        from dtx.exchange.published.convert_dataset import write

        file = verified(self.file, self.digest, self.label)
        if not self.unsafe_pickle:
            raise UserError(
                f"{file}: is a pickle; if you trust it, say so: dataset.unsafe_pickle=true"
            )
        numbers = write(file, out, self.env.n_actions, self.validation, self.seed, self.label)
        Report(out).headline(numbers)

    def summary(self) -> str:
        """Counts of outcomes."""
        n = read_metrics(self.path)
        return (
            f"imported: {n['data/n_episodes']:,.0f} episodes: {n['data/n_success']:,.0f} success, "
            f"{n['data/n_wrong']:,.0f} wrong, {n['data/n_truncated']:,.0f} truncated; "
            f"{n['data/n_unfinished']:,.0f} unfinished ones left out"
        )
