"""Settings of interchange-intervention training; conf/dt/interchange.yaml says what each field means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from dtx.config.ranges import (
    AT_MOST,
    Count,
    LearningRate,
    Natural,
    NonNegative,
    Number,
    OpenShare,
    Range,
    Seed,
    Share,
    ShareBelowOne,
)
from dtx.dt.spec import Architecture
from dtx.env.memory import Memory
from dtx.stage import RUNTIME

if TYPE_CHECKING:
    from dtx.dt.model_config import ModelConfig

Waits = Annotated[int, Range("there must be some, or no route could be held out", low=1), AT_MOST]
"""Most actions without effect on a route."""


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """Heads of the first block: which one carries the instruction, which one the reward-to-go."""

    identity_name: ClassVar[str] = "dtx.dt.interchange.Aligned"

    instruction: Natural
    reward_to_go: Natural


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """A loss that fades out: variables must be linearly readable from the heads aligned with them."""

    identity_name: ClassVar[str] = "dtx.dt.interchange.Guidance"

    weight: NonNegative
    share: Share


@dataclass(frozen=True, kw_only=True)
class InterchangeSpec:
    """All that training reads."""

    env: Memory
    model: Architecture
    context: Count
    aligned: Aligned
    waits: Waits
    low: tuple[Number, Number]
    high: tuple[Number, Number]
    guidance: Guidance
    smoothing: ShareBelowOne
    steps: Count
    batch_size: Count
    learning_rate: LearningRate
    weight_decay: NonNegative
    warm_up: Natural
    held_out: OpenShare
    pairs: Count
    seed: Seed
    log_every: Count
    checkpoint_every: Count = field(metadata=RUNTIME)

    def model_config(self) -> ModelConfig:
        """The transformer's config."""
        return self.model.config(
            n_steps=self.context, state_bias=True, reward_to_go=True, left_padding=False
        )
