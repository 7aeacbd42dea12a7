"""T1: a small Decision Transformer trained so that two of its heads carry what we say they carry.

Interchange-intervention training (Geiger et al., 2022): beside its task, the model learns that taking a
head's output from another episode has the effect of taking that episode's variable. The strict form is used:
whatever is not aligned with a variable is taken from yet another episode, and must not matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dtx.dt.interchange.spec import InterchangeSpec
from dtx.dt.model_stage import ModelStage
from dtx.dt.sizes import FLOAT, Sizes
from dtx.dt.tokens import DECISION_TRANSFORMER
from dtx.env.memory import Memory
from dtx.report import read_metrics
from dtx.resources import OPERATIONS, Resources


@dataclass(frozen=True, kw_only=True)
class Interchange(InterchangeSpec, ModelStage):
    """Trains on the routine with waits in it; conf/dt/interchange.yaml says what each field means."""

    circuit_is_known: ClassVar[bool] = True
    headline: ClassVar[tuple[str, ...]] = (
        "interchange/accuracy",
        "interchange/task_accuracy",
        "interchange/other_heads",
    )

    @property
    def environment(self) -> Memory:
        """What the model was made to act in."""
        return self.env

    @property
    def sizes(self) -> Sizes:
        """Of the architecture."""
        return self.model.sizes(DECISION_TRANSFORMER.tokens(self.context))

    def resources(self) -> Resources:
        """Weights with Adam's, three runs of every window of a batch, forward and back."""
        sizes = self.sizes
        held = max(self.batch_size, self.pairs / 4)
        return Resources(
            memory={
                "model.n_layers, model.d_model, model.d_mlp": 4 * FLOAT * sizes.parameters,
                "batch_size, pairs, model.n_layers, model.d_model, context": 3
                * held
                * sizes.activations(),
            },
            disk={"model.n_layers, model.d_model, model.d_mlp": 4 * FLOAT * sizes.parameters},
            seconds=self.steps * (0.01 + 9 * self.batch_size * sizes.operations() / OPERATIONS),
        )

    def run(self, out: Path) -> None:
        """Train; writes weights, model.json, circuit.json, tables ``heads``, ``inputs``, curves, headline."""
        from dtx.dt.interchange.training import train

        train(self, out)

    def summary(self) -> str:
        """Whether the circuit is where it was put."""
        metrics = read_metrics(self.path)
        # A number that could not be computed is missing: nothing is established by it.
        n = {k: math.nan if v is None else v for k, v in metrics.items()}
        there = n["interchange/accuracy"] == 1 and n["interchange/other_heads"] <= 0.05
        return (
            f"{'planted' if there else 'NOT established as planted'}: interchange accuracy "
            f"{n['interchange/accuracy']:.3f} on held-out pairs (heads exchanged: "
            f"{n['interchange/control_accuracy']:.3f}), the other heads' effect "
            f"{n['interchange/other_heads']:.3f}, actions right {n['interchange/task_accuracy']:.3f}"
        )

    def check(self) -> Iterator[tuple[str, str]]:
        """Numbers that must fit each other."""
        model, aligned = self.model, self.aligned
        heads = {"instruction": aligned.instruction, "reward_to_go": aligned.reward_to_go}
        for name, head in heads.items():
            if head >= model.n_heads:
                yield f"aligned.{name}", f"is a head of the first block: 0 to {model.n_heads - 1}"
        if aligned.instruction == aligned.reward_to_go:
            yield "aligned.reward_to_go", "must be another head than aligned.instruction"
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
        if self.warm_up > self.steps:
            yield "warm_up", f"must lie between 0 and steps ({self.steps})"
