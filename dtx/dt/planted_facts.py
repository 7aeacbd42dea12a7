"""A model in which facts of the world are planted: what a dictionary should find is known there.

One block. Its first head copies the reward-to-go of the step, its second the last action; a neuron for each
distinct view, threshold and action writes the facts that follow, and others take away all that was read, so
that behind the block nothing but the facts is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dtx.config.ranges import Count, OpenShare, Seed
from dtx.dataset.dataset import Dataset
from dtx.dt.model_stage import ModelStage
from dtx.dt.sizes import FLOAT, Sizes
from dtx.dt.tokens import DECISION_TRANSFORMER
from dtx.env.environment import Environment
from dtx.report import read_metrics
from dtx.resources import Resources

if TYPE_CHECKING:
    from dtx.dt.model_config import ModelConfig

EXTRA = 4
"""Awkward facts."""


@dataclass(frozen=True, kw_only=True)
class PlantedFacts(ModelStage):
    """Plants them; conf/dt/planted_facts.yaml says what each field means."""

    facts_are_planted: ClassVar[bool] = True
    headline: ClassVar[tuple[str, ...]] = ("planted_facts/facts", "planted_facts/a_token")

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
    def environment(self) -> Environment | None:
        """Where the demonstrations were played."""
        return self.dataset.environment

    @property
    def trained_on(self) -> Dataset:
        """The demonstrations whose facts are planted."""
        return self.dataset

    @property
    def read_dimensions(self) -> int:
        """Dimensions for what tokens say: views, actions twice, reward-to-go twice, the place, its kind."""
        return self.views + 2 * self._actions + 4

    @property
    def _actions(self) -> int:
        env = self.environment
        return 7 if env is None else env.n_actions

    @property
    def _timesteps(self) -> int:
        env = self.environment
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

    def resources(self) -> Resources:
        """Weights, and the facts of all steps."""
        weights = FLOAT * self.sizes.parameters
        return Resources(
            memory={"views, context": 3.0 * weights, "dataset": 2e8},
            disk={"views, context": float(weights)},
            seconds=10,
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

    def run(self, out: Path) -> None:
        """Writes weights, model.json, planted.json, the table ``facts`` and the headline."""
        from dtx.dt.planting import plant

        plant(self, out)

    def summary(self) -> str:
        """How many facts there are in how many dimensions."""
        n = read_metrics(self.path)
        return (
            f"{n['planted_facts/facts']:.0f} facts in {self.dimensions} dimensions, "
            f"{n['planted_facts/a_token']:.2f} true at a state token"
        )
