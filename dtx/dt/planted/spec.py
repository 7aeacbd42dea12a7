"""Settings of the compiled model, and what follows from them; conf/dt/planted.yaml explains the fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from dtx.config.ranges import Count, Natural, Number, Range, Seed, ShareBelowOne
from dtx.dt.planted.features import (
    ACTIONS,
    AT_FIRST,
    CIRCUIT,
    DISTRACTION,
    SEEN,
    TWICE,
    at_relay,
    relayed,
)
from dtx.dt.tokens import DECISION_TRANSFORMER
from dtx.env.memory import Memory

if TYPE_CHECKING:
    from dtx.dt.model_config import ModelConfig


@dataclass(frozen=True)
class Paths:
    """How the variables get to the deciding MLP, where that is harder to see than in the plain model.

    Attributes:
        relays: Steps whose state tokens the instruction passes on its way, one tuple a stop: ``()`` it goes
            straight to the decision; ``((2,),)`` by step 2; ``((2,), (3,))`` by step 2, then 3;
            ``((2, 3, 4),)`` by three tokens at once, of which each carries a third.
        redundant_heads: Two heads carry the instruction, and either is enough.
        mean_reward_to_go: Reward-to-go is the mean over all its tokens, not what the last one says.
        silent_head: A head looks at the instruction and reads it, and writes nothing.
    """

    relays: tuple[tuple[int, ...], ...] = ()
    redundant_heads: bool = False
    mean_reward_to_go: bool = False
    silent_head: bool = False


D_HEAD, D_MLP = 4, 8
Compiled = Annotated[int, Range("must be between 1 and 1000", low=1, high=1000)]
"""Layers, or heads of each: one after the other is compiled."""


@dataclass(frozen=True, kw_only=True)
class PlantedSpec:
    """The variant that is compiled."""

    env: Memory
    context: Count
    n_layers: Compiled
    n_heads: Compiled
    threshold: tuple[Number, Number]
    layer_norm: bool
    dimensions: Count | None
    rotation: bool
    backup_head: bool
    negative_head: ShareBelowOne
    distractor_heads: Natural
    seed: Seed

    @property
    def paths(self) -> Paths:
        """How the variables get to the decision: here the plain way."""
        return Paths()

    @property
    def moving_layer(self) -> int:
        """Block whose head brings the instruction to the decision; each stop before takes one."""
        return 1 + len(self.paths.relays)

    @property
    def deciding_layer(self) -> int:
        """Block whose MLP decides; a backup head, or a second main head, needs one before it."""
        return self.moving_layer + (self.backup_head or self.paths.redundant_heads)

    @property
    def silent_slot(self) -> tuple[int, int]:
        """(layer, head) of the head that looks and writes nothing."""
        return (1, self.n_heads - 1)

    @property
    def best_return(self) -> float:
        """Of an episode that goes straight to the right object."""
        return 1 - 0.9 * (self.env.decision.step + 2) / self.env.max_steps

    def features(self) -> list[str]:
        """Names of what the residual stream holds."""
        names = [*CIRCUIT, *ACTIONS]
        if self.backup_head:
            names.append(SEEN)
        if self.paths.redundant_heads:
            names.append(TWICE)
        for stop in range(len(self.paths.relays)):
            names += [at_relay(stop), relayed(stop)]
        if self.paths.relays:
            names.append(AT_FIRST)
        return names + (DISTRACTION if self.distractor_heads else [])

    def free_heads(self) -> list[tuple[int, int]]:
        """(layer, head) without a part in the circuit, from the first block on."""
        used = {(0, 0), *((layer, 0) for layer in range(1, self.moving_layer + 1))}
        if self.paths.redundant_heads:
            used.add((1, 1))
        if self.paths.silent_head:
            used.add(self.silent_slot)
        if self.backup_head:
            used.add((2, 0))
        if self.negative_head:
            used.add((self.deciding_layer + 1, 0))
        slots = ((layer, head) for head in range(self.n_heads) for layer in range(self.n_layers))
        return [slot for slot in slots if slot not in used]

    @property
    def width(self) -> int:
        """Width of the residual stream; it follows from the features."""
        width = self.dimensions or len(self.features())
        # With LayerNorm a dimension becomes a pair of opposite ones, and one pair holds the ballast.
        return 2 * (width + 1) if self.layer_norm else width

    def model_config(self) -> ModelConfig:
        """The transformer's config."""
        from dtx.dt.model_config import ModelConfig

        return ModelConfig(
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            d_model=self.width,
            d_head=D_HEAD,
            d_mlp=D_MLP,
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
