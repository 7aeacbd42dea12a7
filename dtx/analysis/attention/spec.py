"""The settings of the attention analysis; ``conf/analysis/attention.yaml`` explains them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from dtx.analysis.core.targets import Divergence, check_targets
from dtx.analysis.core.untrained import Twins
from dtx.config.ranges import NotEmpty, Number, Seed, Share


@dataclass(frozen=True, kw_only=True)
class AttentionSpec:
    """Which targets are compared, and with how many untrained models."""

    targets: Annotated[tuple[Number, ...], NotEmpty("needs at least one reward-to-go")]
    low: Number
    high: Number
    threshold: Divergence
    untrained: Twins
    margin: Share
    seed: Seed

    def check(self) -> Iterator[tuple[str, str]]:
        """The two targets that claims compare."""
        yield from check_targets(self.targets, self.low, self.high)

    @property
    def compared(self) -> dict[str, int]:
        """Places of the two targets that claims compare, by the names ``low`` and ``high``."""
        return {"low": self.targets.index(self.low), "high": self.targets.index(self.high)}


TRAINED = "trained"
"""Name of the model in the tables; others are ``untrained 0`` and so on."""
INSTRUCTION = "S1"
"""The state token of the first step, from which the instruction is seen."""
