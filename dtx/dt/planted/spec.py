"""Settings of the compiled model, and what follows from them; conf/dt/planted.yaml explains the fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dtx.config.ranges import Count, Natural, Seed, ShareBelowOne
from dtx.dt.planted.features import ACTIONS, CIRCUIT, DISTRACTION, SEEN
from dtx.dt.tokens import DECISION_TRANSFORMER
from dtx.env.memory import Memory

if TYPE_CHECKING:
    from dtx.dt.model_config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class PlantedSpec:
    """The variant that is compiled."""

    env: Memory
    context: Count
    n_layers: Count
    n_heads: Count
    threshold: tuple[float, float]
    layer_norm: bool
    dimensions: int | None
    rotation: bool
    backup_head: bool
    negative_head: ShareBelowOne
    distractor_heads: Natural
    seed: Seed

    @property
    def deciding_layer(self) -> int:
        """Block whose MLP decides; a backup head needs one between the main head and it."""
        return 2 if self.backup_head else 1

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
        from dtx.dt.model_config import ModelConfig

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
