"""The settings of the attribution; ``conf/analysis/attribution.yaml`` explains them."""

from __future__ import annotations

from dataclasses import dataclass

from dtx.analysis.core.controls import RandomControls
from dtx.analysis.core.inputs import Contrast
from dtx.config.ranges import Count, Seed


@dataclass(frozen=True, kw_only=True)
class AttributionSpec:
    """Which logit difference is split, and what its parts are compared with."""

    contrast: Contrast
    random_directions: RandomControls
    shown: Count
    seed: Seed


BIAS = "bias"
"""The kind of components that are constant."""
