"""Settings that several kinds of models share: their architecture, and the windows of episodes they read."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from dtx.config.ranges import Count, Share
from dtx.dt.sizes import Sizes
from dtx.stage import added

if TYPE_CHECKING:
    from dtx.dt.model_config import ModelConfig


class Activation(enum.Enum):
    """The MLP's non-linearity."""

    gelu = "gelu"
    relu = "relu"


class TimeEmbedding(enum.Enum):
    """How a timestep becomes a vector: one learned row each, or a multiple of one vector."""

    learned = "learned"
    linear = "linear"


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Sizes and switches of the transformer; conf/dt/memory_dt.yaml says what each one means."""

    identity_name: ClassVar[str] = "dtx.dt.decision_transformer.Architecture"

    n_layers: Count
    d_model: Count
    n_heads: Count
    d_mlp: Count
    activation: Activation
    gated_mlp: bool
    layer_norm: bool
    n_ctx: Count
    n_timesteps: Count
    time_embedding: TimeEmbedding
    positional_embedding: bool
    n_actions: Count

    def config(
        self, *, n_steps: int, state_bias: bool, reward_to_go: bool, left_padding: bool
    ) -> ModelConfig:
        """The transformer's config, with what a stage adds to its architecture."""
        from dtx.dt.model_config import ModelConfig

        return ModelConfig(
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            d_model=self.d_model,
            d_head=self.d_model // self.n_heads,
            d_mlp=self.d_mlp,
            act_fn=self.activation.value,
            gated_mlp=self.gated_mlp,
            normalization_type="LN" if self.layer_norm else None,
            n_ctx=self.n_ctx,
            n_steps=n_steps,
            n_timesteps=self.n_timesteps,
            time_embedding=self.time_embedding.value,
            positional_embedding=self.positional_embedding,
            state_bias=state_bias,
            reward_to_go=reward_to_go,
            left_padding=left_padding,
            n_actions=self.n_actions,
        )

    def sizes(self, tokens: int) -> Sizes:
        """What its memory and work follow from; ``tokens``: of the longest window."""
        return Sizes(
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            d_model=self.d_model,
            d_mlp=self.d_mlp,
            tokens=tokens,
            n_ctx=self.n_ctx,
            n_timesteps=self.n_timesteps,
            time_embedding=self.time_embedding.value,
            n_actions=self.n_actions,
            matrices=3 if self.gated_mlp else 2,
        )

    def check(self) -> Iterator[tuple[str, str]]:
        """Heads share the width evenly."""
        if self.n_heads > 0 and self.d_model % self.n_heads:
            yield (
                "n_heads",
                f"{self.n_heads} heads do not divide d_model {self.d_model}; choose a divisor",
            )


class Padding(enum.Enum):
    """Where short windows are padded, in training and in rollouts alike.

    ``right``: windows start at a step of the episode and have nothing before it. ``left``: windows end
    at a step and are filled up before the start with zero states, padding actions and the first
    reward-to-go: the MemoryDT study's way.
    """

    left = "left"
    right = "right"


class Balance(enum.Enum):
    """Shares of windows by how their episode ended.

    ``none``: as the demonstrations have them. ``success``: half successes, half failures. ``outcome``:
    a third each of success, wrong and truncated. ``returns``: half failures, a quarter successes, a
    quarter successes evenly over tenths of their returns, so that rare targets are trained on, too.
    """

    none = "none"
    success = "success"
    outcome = "outcome"
    returns = "returns"


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Which windows of the episodes are trained on."""

    identity_name: ClassVar[str] = "dtx.dt.decision_transformer.Windows"

    context: Count
    padding: Padding
    first_share: Share
    end_share: Share
    whole_share: Share = field(metadata=added(before=1.0))
    cut: Count | None = field(metadata=added(before=None))
    balance: Balance
