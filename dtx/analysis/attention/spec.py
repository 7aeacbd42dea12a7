"""The settings of the attention analysis; ``conf/analysis/attention.yaml`` explains them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from dtx.analysis.core.targets import check_targets
from dtx.config.ranges import Count, NotEmpty, Seed, Share


@dataclass(frozen=True, kw_only=True)
class AttentionSpec:
    """Which targets are compared, and with how many untrained models."""

    targets: Annotated[tuple[float, ...], NotEmpty("needs at least one reward-to-go")]
    low: float
    high: float
    untrained: Count
    margin: Share
    resamples: Count
    seed: Seed

    def check(self) -> Iterator[tuple[str, str]]:
        """The two targets that claims compare."""
        yield from check_targets(self.targets, self.low, self.high)


TRAINED = "trained"
"""Name of the model in the tables; others are ``untrained 0`` and so on."""
INSTRUCTION = "S1"
"""The state token of the first step, from which the instruction is seen."""
