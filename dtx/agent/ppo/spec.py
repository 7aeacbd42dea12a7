"""Settings of recurrent PPO: what training reads of the stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from dtx.agent.architecture import Encoder, Recurrence
from dtx.config.ranges import (
    Count,
    LearningRate,
    Magnitude,
    Natural,
    NonNegative,
    Positive,
    Range,
    Seed,
    Share,
)
from dtx.env.environment import Environment

Discount = Annotated[float, Range("must be between 0 and 1", low=0, high=1)]
"""A weight per step: a number between 0 and 1, both allowed."""


FinalRate = Annotated[float, Range("is a learning rate: 0 to 100", low=0, high=100), Magnitude()]
"""A learning rate, or none any more."""


@dataclass(frozen=True, kw_only=True)
class PPOSpec:
    """Settings of training; conf/agent/ppo.yaml explains each."""

    env: Environment
    seed: Seed
    encoder: Encoder
    memory: Recurrence
    width: Count
    frames: Count
    environments: Count
    rollout_steps: Count
    epochs: Count
    minibatches: Count
    lr: LearningRate
    lr_end: FinalRate
    clip: Positive
    gamma: Discount
    gae_lambda: Discount
    entropy: NonNegative
    entropy_end: NonNegative
    value_weight: NonNegative
    gradient_norm: Positive
    target_kl: Positive
    solved_at: Share
    stop_when_solved: bool
    evaluate_every: Count
    evaluation_episodes: Count
    attempts: Count
    give_up_at: Natural
    checkpoint_every: Count

    @property
    def frames_an_iteration(self) -> int:
        """Frames between two updates of the policy."""
        return self.environments * self.rollout_steps

    @property
    def iterations(self) -> int:
        """Iterations of an attempt that is not ended early."""
        return max(1, self.frames // self.frames_an_iteration)
