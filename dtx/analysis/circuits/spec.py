"""The settings of the circuits; ``conf/analysis/circuits.yaml`` explains them."""

from __future__ import annotations

from dataclasses import dataclass

from dtx.config.ranges import Seed


@dataclass(frozen=True, kw_only=True)
class CircuitsSpec:
    """The control."""

    untrained: Seed


TRAINED, UNTRAINED = "trained", "untrained"
"""Names of the models in the tables."""
