"""The settings of the explorer's file; ``conf/analysis/explorer.yaml`` explains them."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dtx.config.ranges import Natural, NonNegative, Seed
from dtx.pairs.spec import ComparedActions


class Precision(enum.Enum):
    """Numbers of the weights in the file."""

    float32 = "float32"
    float16 = "float16"


@dataclass(frozen=True, kw_only=True)
class ExplorerSpec:
    """What the file carries beside the models."""

    checkpoints: tuple[Natural, ...]
    worlds: tuple[str, ...]
    edits: dict[str, tuple[Any, ...]]
    contrast: ComparedActions
    min_ld_gap: NonNegative
    precision: Precision
    frozen: tuple[str, ...]
    seed: Seed

    def check(self) -> Iterator[tuple[str, str]]:
        """Each is there once."""
        for name in ("checkpoints", "worlds", "frozen"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                yield name, "each must be there once"
