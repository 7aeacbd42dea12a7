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
from typing import TYPE_CHECKING, ClassVar

from dtx.dt.model_stage import ModelStage
from dtx.dt.planted.features import ACTIONS, CIRCUIT, DISTRACTION, SEEN
from dtx.dt.tokens import DECISION_TRANSFORMER
from dtx.env.memory import Memory
from dtx.report import read_metrics

if TYPE_CHECKING:
    from dtx.dt.model import ModelConfig

FEWEST = 9
"""Dimensions under which the circuit's own features do not stay apart."""


@dataclass(frozen=True, kw_only=True)
class Planted(ModelStage):
    """Compiles; conf/dt/planted.yaml says what each field means."""

    circuit_is_known: ClassVar[bool] = True

    env: Memory
    context: int
    n_layers: int
    n_heads: int
    threshold: tuple[float, float]
    layer_norm: bool
    dimensions: int | None
    rotation: bool
    backup_head: bool
    negative_head: float
    distractor_heads: int
    seed: int

    @property
    def deciding_layer(self) -> int:
        """Block whose MLP decides; a backup head needs one between the main head and it."""
        return 2 if self.backup_head else 1

    @property
    def environment(self) -> Memory:
        """What the model was made to act in."""
        return self.env

    @property
    def reward_to_go(self) -> bool:
        """It reads reward-to-go."""
        return True

    def features(self) -> list[str]:
        """Names of what the residual stream holds."""
        names = [*CIRCUIT, *ACTIONS]
        if self.backup_head:
            names.append(SEEN)
        return names + (DISTRACTION if self.distractor_heads else [])

    def free_heads(self) -> list[tuple[int, int]]:
        """(layer, head) without a part in the circuit, from the first block on."""
        used = {(0, 0), (1, 0)}
        if self.backup_head:
            used.add((2, 0))
        if self.negative_head:
            used.add((self.deciding_layer + 1, 0))
        slots = ((layer, head) for head in range(self.n_heads) for layer in range(self.n_layers))
        return [slot for slot in slots if slot not in used]

    def model_config(self) -> ModelConfig:
        """The transformer's config; its width follows from the features."""
        from dtx.dt.model import ModelConfig

        width = self.dimensions or len(self.features())
        return ModelConfig(
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            # With LayerNorm a dimension becomes a pair of opposite ones, and one pair holds the ballast.
            d_model=2 * (width + 1) if self.layer_norm else width,
            d_head=4,
            d_mlp=8,
            act_fn="relu",
            gated_mlp=False,
            normalization_type="LN" if self.layer_norm else None,
            n_ctx=DECISION_TRANSFORMER.tokens(self.context),
            n_steps=self.context,
            n_timesteps=self.env.max_steps,
            time_embedding="learned",
            positional_embedding=True,
            state_bias=False,
            reward_to_go=True,
            left_padding=False,
            n_actions=self.env.n_actions,
        )

    def run(self, out: Path) -> None:
        """Compile and play; writes weights, model.json, circuit.json, table ``features``, headline."""
        from dtx.dt.planted.circuit import circuit
        from dtx.dt.planted.compile import compile_and_verify

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
        needed = self.env.decision.step + 2
        if self.context < needed:
            yield "context", f"{self.context} steps do not hold the routine's {needed}"
        least = self.deciding_layer + 1 + (self.negative_head > 0)
        if self.n_layers < least:
            yield (
                "n_layers",
                f"{self.n_layers} blocks do not hold this circuit; at least {least} do",
            )
        if self.n_heads < 1:
            yield "n_heads", "must be at least 1"
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
            for name in ("backup_head", "negative_head", "distractor_heads"):
                if getattr(self, name):
                    yield (
                        name,
                        "does not do exactly its part in superposition; set dimensions to null",
                    )
        if not 0 <= self.negative_head < 1:
            yield "negative_head", "is a share of the turn that is taken back: from 0 to below 1"
        free = len(self.free_heads())
        if not 0 <= self.distractor_heads <= free:
            yield "distractor_heads", f"{self.distractor_heads} do not fit: {free} heads are free"
        if self.seed < 0:
            yield "seed", "must be 0 or more"
