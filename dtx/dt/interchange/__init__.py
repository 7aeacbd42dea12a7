"""T1: a small Decision Transformer trained so that two of its heads carry what we say they carry.

Interchange-intervention training (Geiger et al., 2022): beside its task, the model learns that taking a
head's output from another episode has the effect of taking that episode's variable. The strict form is used:
whatever is not aligned with a variable is taken from yet another episode, and must not matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dtx.dt.decision_transformer import Architecture
from dtx.dt.model_stage import ModelStage
from dtx.dt.tokens import DECISION_TRANSFORMER
from dtx.env.memory import Memory
from dtx.report import read_metrics
from dtx.stage import RUNTIME

if TYPE_CHECKING:
    from dtx.dt.model import ModelConfig


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """Heads of the first block: which one carries the instruction, which one the reward-to-go."""

    instruction: int
    reward_to_go: int


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """A loss that fades out: variables must be linearly readable from the heads aligned with them."""

    weight: float
    share: float


@dataclass(frozen=True, kw_only=True)
class Interchange(ModelStage):
    """Trains on the routine with waits in it; conf/dt/interchange.yaml says what each field means."""

    circuit_is_known: ClassVar[bool] = True

    env: Memory
    model: Architecture
    context: int
    aligned: Aligned
    waits: int
    low: tuple[float, float]
    high: tuple[float, float]
    guidance: Guidance
    smoothing: float
    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warm_up: int
    held_out: float
    pairs: int
    seed: int
    log_every: int
    checkpoint_every: int = field(metadata=RUNTIME)

    @property
    def environment(self) -> Memory:
        """What the model was made to act in."""
        return self.env

    @property
    def reward_to_go(self) -> bool:
        """It reads reward-to-go, as every model here that is no behaviour clone."""
        return True

    def model_config(self) -> ModelConfig:
        """The transformer's config."""
        return self.model.config(
            n_steps=self.context, state_bias=True, reward_to_go=True, left_padding=False
        )

    def run(self, out: Path) -> None:
        """Train; writes weights, model.json, circuit.json, table ``heads``, curves and headline."""
        from dtx.dt.interchange.training import train

        train(self, out)

    def summary(self) -> str:
        """Whether the circuit is where it was put."""
        told = read_metrics(self.path)
        # A number that could not be computed is missing: nothing is established by it.
        n = {k: math.nan if v is None else v for k, v in told.items()}
        there = n["interchange/accuracy"] == 1 and n["interchange/other_heads"] <= 0.05
        return (
            f"{'planted' if there else 'NOT established as planted'}: interchange accuracy "
            f"{n['interchange/accuracy']:.3f} on held-out pairs (heads exchanged: "
            f"{n['interchange/control_accuracy']:.3f}), the other heads' effect "
            f"{n['interchange/other_heads']:.3f}, actions right {n['interchange/task_accuracy']:.3f}"
        )

    def check(self) -> Iterator[tuple[str, str]]:
        model = self.model
        if model.n_heads < 1 or model.d_model % model.n_heads:
            yield "model.n_heads", f"{model.n_heads} heads do not divide d_model {model.d_model}"
        for name in ("instruction", "reward_to_go"):
            if not 0 <= getattr(self.aligned, name) < model.n_heads:
                yield f"aligned.{name}", f"is a head of the first block: 0 to {model.n_heads - 1}"
        if self.aligned.instruction == self.aligned.reward_to_go:
            yield "aligned.reward_to_go", "must be another head than aligned.instruction"
        if self.waits < 0:
            yield "waits", "must be 0 or more"
        # The routine up to the turn, the waits, and the state after the turn.
        needed = self.env.decision.step + 2 + max(self.waits, 0)
        if self.context < needed:
            yield "context", f"{self.context} steps do not hold the routine with waits; {needed} do"
        tokens = DECISION_TRANSFORMER.tokens(self.context)
        if tokens > model.n_ctx:
            yield "context", f"{tokens} tokens are more than model.n_ctx={model.n_ctx}"
        if model.n_timesteps < self.env.max_steps:
            yield "model.n_timesteps", f"must reach env.max_steps={self.env.max_steps}"
        if model.n_actions != self.env.n_actions:
            yield "model.n_actions", f"the environment has {self.env.n_actions}"
        if not self.low[0] <= self.low[1] < self.high[0] <= self.high[1]:
            yield "low", "ranges must be ordered: low[0] <= low[1] < high[0] <= high[1]"
        if not 0 <= self.smoothing < 1:
            yield "smoothing", "is a share: from 0 to below 1"
        if self.guidance.weight < 0:
            yield "guidance.weight", "must be 0 or more"
        if not 0 <= self.guidance.share <= 1:
            yield "guidance.share", "is a share of the steps: between 0 and 1"
        if not 0 < self.held_out < 1:
            yield "held_out", "is a share of the routes: above 0 and below 1"
        if self.waits == 0:
            yield "waits", "there must be some, or no route could be held out"
        for name in ("steps", "batch_size", "pairs", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                yield name, "must be at least 1"
        if not 0 <= self.warm_up <= self.steps:
            yield "warm_up", f"must lie between 0 and steps ({self.steps})"
        if self.learning_rate <= 0:
            yield "learning_rate", "must be above 0"
        if self.weight_decay < 0:
            yield "weight_decay", "must not be negative"
        if self.seed < 0:
            yield "seed", "must be 0 or more"
