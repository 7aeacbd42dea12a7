"""The settings of the decision's analysis; ``conf/analysis/psychology.yaml`` explains them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dtx.analysis.core.targets import Divergence, check_targets
from dtx.analysis.core.untrained import Twins
from dtx.config.ranges import Count, Number, Seed


@dataclass(frozen=True, kw_only=True)
class PsychologySpec:
    """What is asked for, played and compared."""

    targets: tuple[Number, ...]
    low: Number
    high: Number
    threshold: Divergence
    episodes: Count
    untrained: Twins
    seed: Seed

    def check(self) -> Iterator[tuple[str, str]]:
        """The two targets that claims compare are among the targets."""
        yield from check_targets(self.targets, self.low, self.high)


TRAINED = "trained"
"""Name of the model in the tables; the others are untrained."""
