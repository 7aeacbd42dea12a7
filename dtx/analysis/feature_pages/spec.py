"""The settings of the pages, and names in their tables; see ``conf/analysis/feature_pages.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from dtx.config.ranges import Range, Seed

STRONGEST, RANDOM = "strongest", "random"
"""Which tokens are drawn: those of the largest activation, and any at which the feature is on."""
UNNAMED = "unnamed"
"""Verdict of the analysis ``labels`` on a feature whose best sentence is no name."""
BINS = 24
"""Of a histogram of activations, from 0 to the largest."""
TIMES = 12
"""Parts of the longest episode."""
TOLERANCE = 0.01
"""Largest difference of an activation that is shown from the recomputed one, as a share of the feature's
largest: the store may be in float16, whose rounding a dictionary sums over the activation's dimensions."""


@dataclass(frozen=True, kw_only=True)
class FeaturePagesSpec:
    """How much is shown of each feature."""

    rows: Annotated[int, Range("must be 200 to 10 million rows", low=200, high=10**7)]
    examples: Annotated[int, Range("must be 1 to 24 tokens of each kind", low=1, high=24)]
    untrained: Seed
    seed: Seed
