"""Stages whose product is demonstrations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dtx.stage import Stage

if TYPE_CHECKING:
    from dtx.dataset.episodes import Episodes


@dataclass(frozen=True, kw_only=True)
class Dataset(Stage):
    """Interface of stages that provide demonstrations: recorded, read from Minari, or imported."""

    def load(self) -> Episodes:
        """The recorded episodes, memory-mapped."""
        from dtx.dataset.episodes import Episodes

        return Episodes.read(self.path)
