"""The settings of the smallest circuit; ``conf/analysis/smallest_circuit.yaml`` explains them."""

from __future__ import annotations

from dataclasses import dataclass

from dtx.config.ranges import Count, Positive, PositiveShare, Seed


@dataclass(frozen=True, kw_only=True)
class SmallestCircuitSpec:
    """How much a circuit must keep, and what it is compared with."""

    faithfulness: PositiveShare
    draws: Count
    tolerance: Positive
    resamples: Count
    seed: Seed


RANKED, RANDOM = "ranked", "random"
"""Kinds of circuits in the table ``curve``."""
