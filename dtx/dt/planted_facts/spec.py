"""The settings of a model in which facts are planted; ``conf/dt/planted_facts.yaml`` explains them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dtx.config.ranges import Count, OpenShare, Seed
from dtx.dataset.dataset import Dataset
from dtx.dt.sizes import Sizes
from dtx.dt.tokens import DECISION_TRANSFORMER

if TYPE_CHECKING:
    from dtx.dt.model_config import ModelConfig

EXTRA = 4
"""Awkward facts."""


@dataclass(frozen=True, kw_only=True)
class PlantedFactsSpec:
    """Which facts, how many, in how many dimensions; and the sizes of the network that follow."""

    dataset: Dataset
    number: Count
    dimensions: Count
    apart: OpenShare
    least: OpenShare
    most: OpenShare
    awkward: bool
    context: Count
    views: Count
    seed: Seed

    @property
    def read_dimensions(self) -> int:
        """Dimensions for what tokens say: views, actions twice, reward-to-go twice, the place, its kind."""
        return self.views + 2 * self._actions + 4

    @property
    def _actions(self) -> int:
        env = self.dataset.environment
        return 7 if env is None else env.n_actions

    @property
    def _timesteps(self) -> int:
        env = self.dataset.environment
        return self.context if env is None else max(env.horizon, self.context)

    @property
    def sizes(self) -> Sizes:
        """Of the network, whose width follows from the views it can tell apart."""
        tokens = DECISION_TRANSFORMER.tokens(self.context)
        return Sizes(
            n_layers=1,
            n_heads=2,
            d_model=max(self.read_dimensions, self.dimensions),
            d_mlp=self.views + 2 * (self.number + EXTRA) + self._actions + 2 * self.read_dimensions,
            tokens=tokens,
            n_ctx=tokens,
            n_timesteps=self._timesteps,
            time_embedding="learned",
            n_actions=self._actions,
        )

    def model_config(self) -> ModelConfig:
        """The network's config."""
        from dtx.dt.model_config import ModelConfig

        sizes = self.sizes
        return ModelConfig(
            n_layers=1,
            n_heads=2,
            d_model=sizes.d_model,
            d_head=self._actions + 1,
            d_mlp=sizes.d_mlp,
            act_fn="relu",
            gated_mlp=False,
            normalization_type=None,
            n_ctx=sizes.n_ctx,
            n_steps=self.context,
            n_timesteps=sizes.n_timesteps,
            time_embedding="learned",
            positional_embedding=True,
            state_bias=False,
            reward_to_go=True,
            left_padding=False,
            n_actions=self._actions,
        )

    def check(self) -> Iterator[tuple[str, str]]:
        """Shares in order, fewer dimensions than facts, and demonstrations with facts."""
        if self.least >= self.most:
            yield "least", f"{self.least:g} is no smaller than most={self.most:g}"
        if self.dimensions >= self.number:
            yield (
                "dimensions",
                f"{self.dimensions} hold {self.number} facts one by one; give fewer, so that they share",
            )
        if self.dataset.has_facts is False:
            yield "dataset", "no facts are recorded; record them with dataset.facts=true"
