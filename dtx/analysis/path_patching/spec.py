"""The settings of path patching; ``conf/analysis/path_patching.yaml`` explains them."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated

from dtx.analysis.core.patching_spec import Direction, SweepSpec
from dtx.config.ranges import NotEmpty, Seed


class EdgeTokens(enum.Enum):
    """``each``: an edge at every token alone, and at all together. ``together``: only the latter."""

    each = "each"
    together = "together"


@dataclass(frozen=True, kw_only=True)
class PathPatchingSpec(SweepSpec):
    """What is patched; ``edits``: names of the pairs' edits, None for all."""

    edits: Annotated[tuple[str, ...], NotEmpty("needs at least one; null takes all")] | None
    direction: Direction
    tokens: EdgeTokens
    seed: Seed


TOGETHER = "all"
"""Name of the token of cells in which an edge is patched at all tokens."""
