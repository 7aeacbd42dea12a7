"""What the scorecard holds an analysis to."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True)
class Scoring:
    """Declared by an analysis that looks at one model.

    Attributes:
        by_ranking: In a model trained to a circuit (T1), its ranking of nodes or edges must reach an AUROC.
        estimates: Its scores are estimates, not exact even in a compiled model (T0): held to their ranking.
        ungated: Parts of its answers that are reported without a gate.
    """

    by_ranking: bool = False
    estimates: bool = False
    ungated: tuple[str, ...] = ()


class Wrong(enum.Enum):
    """What an analysis must not find in a negative: anything at all, or an effect of reward-to-go."""

    everything = "everything"
    reward_to_go = "reward_to_go"
