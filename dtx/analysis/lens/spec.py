"""The settings of the lenses; ``conf/analysis/lens.yaml`` explains them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from dtx.config.ranges import Count, LearningRate, Natural, NotEmpty, Number, OpenShare, Seed


@dataclass(frozen=True, kw_only=True)
class LensSpec:
    """What is fitted and what is read."""

    targets: Annotated[tuple[Number, ...], NotEmpty()]
    windows: Count
    held_out: Count
    steps: Natural
    batch_size: Count
    learning_rate: LearningRate
    explained: OpenShare
    seed: Seed


TRAINED, UNTRAINED = "trained", "untrained"
LOGIT, TUNED = "logit lens", "tuned lens"
"""Names of the models and lenses in the tables."""
