"""T0: a Decision Transformer compiled by hand to solve Memory, so that its whole circuit is known.

How it works, whatever the variant. The first block's head 0 copies the reward-to-go to every token of its
step, and the first MLP says whether that is much. The second block's head 0 looks at the token that shows
the instruction and copies which one it is. The deciding MLP has a neuron for each combination of instruction,
target and reward-to-go, and writes the turn; elsewhere a bias says forward.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dtx.dt.model_stage import ModelStage
from dtx.dt.planted.features import ACTIONS, CIRCUIT
from dtx.dt.planted.spec import D_HEAD, D_MLP, PlantedSpec
from dtx.dt.sizes import FLOAT, Sizes
from dtx.dt.tokens import DECISION_TRANSFORMER
from dtx.env.memory import Memory
from dtx.report import read_metrics
from dtx.resources import OPERATIONS, Resources

FEWEST = 9
"""Dimensions under which the circuit's own features do not stay apart."""


@dataclass(frozen=True, kw_only=True)
class Planted(PlantedSpec, ModelStage):
    """Compiles; conf/dt/planted.yaml says what each field means."""

    circuit_is_known: ClassVar[bool] = True
    headline: ClassVar[tuple[str, ...]] = (
        "planted/right_rollouts",
        "planted/least_logit_difference",
    )

    @property
    def environment(self) -> Memory:
        """What the model was made to act in."""
        return self.env

    @property
    def sizes(self) -> Sizes:
        """Of the compiled model; its heads are as wide as they need to be, however many there are."""
        return Sizes(
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            d_model=max(self.width, D_HEAD * self.n_heads),
            d_mlp=D_MLP,
            tokens=DECISION_TRANSFORMER.tokens(self.context),
            n_ctx=DECISION_TRANSFORMER.tokens(self.context),
            n_timesteps=self.env.max_steps,
            time_embedding="learned",
            n_actions=self.env.n_actions,
        )

    def resources(self) -> Resources:
        """Weights, and a few windows that are played."""
        sizes = self.sizes
        size = {"n_layers, n_heads, context": FLOAT * sizes.parameters}
        played = {"context, n_layers, n_heads": 16 * sizes.activations()}
        seconds = 200 * sizes.operations() / OPERATIONS + 1e-3 * self.n_layers * self.n_heads
        return Resources(memory=size | played, disk=size, seconds=seconds)

    def run(self, out: Path) -> None:
        """Compile and play; writes weights, model.json, circuit.json, table ``features``, headline."""
        from dtx.dt.planted.compile import compile_and_verify
        from dtx.dt.planted.truth import circuit

        compile_and_verify(self, out)
        circuit(self).save(out)

    def summary(self) -> str:
        """What was compiled, and that it plays right."""
        n = read_metrics(self.path)
        return (
            f"compiled: {n['planted/right_rollouts']:.0f} of {n['planted/rollouts']:.0f} greedy rollouts "
            f"right, |left - right| at the decision {n['planted/least_logit_difference']:.2f} to "
            f"{n['planted/largest_logit_difference']:.2f}"
        )

    def check(self) -> Iterator[tuple[str, str]]:
        """Numbers that must fit each other."""
        needed = self.env.decision.step + 2
        if self.context < needed:
            yield "context", f"{self.context} steps do not hold the routine's {needed}"
        least = self.deciding_layer + 1 + (self.negative_head > 0)
        if self.n_layers < least:
            yield (
                "n_layers",
                f"{self.n_layers} blocks do not hold this circuit; at least {least} do",
            )
        low, high = self.threshold
        if not 0 < low < high < 1:
            yield "threshold", "must be ordered: 0 < threshold[0] < threshold[1] < 1"
        if self.dimensions is not None:
            most = len(CIRCUIT) + len(ACTIONS)
            if not FEWEST <= self.dimensions < most:
                yield (
                    "dimensions",
                    f"superposition of {most} features takes {FEWEST} to {most - 1} dimensions; null gives "
                    "each feature its own",
                )
            # These would not do what they are for: overlapping features are read along with others.
            extra = {
                "backup_head": self.backup_head,
                "negative_head": self.negative_head,
                "distractor_heads": self.distractor_heads,
            }
            for name, wanted in extra.items():
                if wanted:
                    problem = (
                        "does not do exactly its part in superposition; set dimensions to null"
                    )
                    yield name, problem
        free = len(self.free_heads())
        if self.distractor_heads > free:
            yield "distractor_heads", f"{self.distractor_heads} do not fit: {free} heads are free"
