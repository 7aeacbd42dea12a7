"""What a scorecard holds analyses to; ``conf/analysis/scorecard.yaml`` explains the fields."""

from __future__ import annotations

from dataclasses import dataclass

from dtx.config.ranges import Count, Positive, Seed, Share

T0, T1, T4 = "T0", "T1", "T4"
"""Models: compiled, trained to a circuit, and negatives, in which there is nothing to find."""


@dataclass(frozen=True, kw_only=True)
class ScorecardSpec:
    """Thresholds."""

    skip: dict[str, tuple[str, ...]]
    positive: Positive
    least_auroc: Share
    most_false_positives: Share
    tolerance: Positive
    resamples: Count
    seed: Seed
