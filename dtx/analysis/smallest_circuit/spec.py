"""The settings of the smallest circuit; ``conf/analysis/smallest_circuit.yaml`` explains them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from dtx.analysis.core.controls import RandomControls
from dtx.analysis.core.patching_spec import Direction
from dtx.config.ranges import Count, NotEmpty, Positive, Seed, ShareBelowOne


@dataclass(frozen=True, kw_only=True)
class SmallestCircuitSpec:
    """How much a circuit must keep, and what it is compared with."""

    edits: Annotated[tuple[str, ...], NotEmpty("needs at least one; null takes all")] | None
    directions: Annotated[tuple[Direction, ...], NotEmpty("needs at least one")]
    faithfulness: ShareBelowOne
    folds: Count
    draws: RandomControls
    untrained: RandomControls
    tolerance: Positive
    seed: Seed


PRUNED, HELD_OUT, MATCHED, SAME_NODES = "pruned", "held out", "random", "random, same nodes"
"""Kinds of circuits in the table ``curve``: found on these pairs; on other layouts' pairs; random edges."""
CELL = ["edit", "reward_to_go", "direction"]
"""What is never pooled: each has a circuit of its own."""


def name_of(edit: str, reward_to_go: float, direction: str) -> str:
    """Of metrics and claims: ``rtg_zero_0.892_denoise``."""
    return f"{edit}_{reward_to_go:g}_{direction}"
