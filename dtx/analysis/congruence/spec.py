"""The settings of congruence; ``conf/analysis/congruence.yaml`` explains them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from dtx.config.ranges import NotEmpty, Seed
from dtx.env.actions import Action


@dataclass(frozen=True, kw_only=True)
class CongruenceSpec:
    """Whose logits, and what they are compared with."""

    actions: Annotated[tuple[Action, ...], NotEmpty("needs at least one action")]
    untrained: Seed
    seed: Seed

    def check(self) -> Iterator[tuple[str, str]]:
        """No action twice."""
        if len(set(self.actions)) < len(self.actions):
            yield "actions", "names an action twice"


TRAINED, UNTRAINED = "trained", "untrained"
RAW, FOLDED = "raw", "folded"
"""Names of the models and of their weights in the tables."""
