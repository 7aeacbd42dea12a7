"""Stages whose product is demonstrations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dtx.report import Report, read_metrics
from dtx.stage import Stage

if TYPE_CHECKING:
    from dtx.dataset.episodes import Episodes
    from dtx.dataset.facts import Facts
    from dtx.env.environment import Environment


SECONDS_WITH_FACTS = 4e-4
"""Of a step of one environment where facts are recorded."""
SLOWER = "facts: recorded on gymnasium, where a step takes 5 to 20 times as long"
"""What `dtx plan` says of a dataset with facts."""


@dataclass(frozen=True, kw_only=True)
class Dataset(Stage):
    """Interface of stages that provide demonstrations: recorded, read from Minari, or imported."""

    headline: ClassVar[tuple[str, ...]] = (
        "data/n_success",
        "data/n_wrong",
        "data/n_truncated",
        "data/n_episodes",
    )

    @property
    def environment(self) -> Environment | None:
        """Where the episodes were played; None if the stage does not say."""
        return None

    @property
    def has_facts(self) -> bool | None:
        """Whether :meth:`load_facts` gives some; None: known only when the stage has run."""
        return None

    def load(self) -> Episodes:
        """The recorded episodes, memory-mapped."""
        from dtx.dataset.episodes import Episodes

        return Episodes.read(self.path)

    def load_facts(self, derived: Mapping[str, str] | None = None) -> Facts:
        """Facts of the world at every step: recorded ones, or found by playing Memory's episodes again.

        Args:
            derived: Expressions over facts, by name; see :mod:`dtx.dataset.facts`.

        Raises:
            UserError: No facts were recorded and they cannot be found, or an expression is wrong.
        """
        from dtx.dataset.facts import Facts

        return Facts.read(self.path, self.environment, derived)


def report_outcomes(out: Path) -> None:
    """Write the headline of recorded episodes: how many there are, and how they ended."""
    import numpy as np

    from dtx.dataset.episodes import Episodes, Outcome

    episodes = Episodes.read(out)
    counts = np.bincount(episodes.outcome, minlength=3)
    Report(out).headline(
        {
            "data/n_episodes": len(episodes.start),
            "data/n_steps": len(episodes.action),
            "data/n_unique_obs": len(episodes.observations),
            **{f"data/n_{o.name.lower()}": int(counts[o]) for o in Outcome},
        }
    )


def outcomes_in_words(folder: Path) -> str:
    """That headline as a sentence."""
    n = read_metrics(folder)
    return (
        f"{n['data/n_episodes']:,.0f} episodes: {n['data/n_success']:,.0f} success, "
        f"{n['data/n_wrong']:,.0f} wrong, {n['data/n_truncated']:,.0f} truncated; "
        f"{n['data/n_unique_obs']:.0f} distinct observations"
    )
