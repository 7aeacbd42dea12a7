"""Stages whose product is demonstrations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.stage import Stage

if TYPE_CHECKING:
    from dtx.dataset.episodes import Episodes
    from dtx.env.environment import Environment


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

    def load(self) -> Episodes:
        """The recorded episodes, memory-mapped."""
        from dtx.dataset.episodes import Episodes

        return Episodes.read(self.path)
