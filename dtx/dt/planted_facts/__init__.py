"""A model in which facts of the world are planted: what a dictionary should find is known there.

One block. Its first head copies the reward-to-go of the step, its second the last action; a neuron for each
distinct view, threshold and action writes the facts that follow, and others take away all that was read, so
that behind the block nothing but the facts is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dtx.dataset.dataset import Dataset
from dtx.dt.model_stage import ModelStage
from dtx.dt.planted_facts.spec import PlantedFactsSpec
from dtx.dt.sizes import FLOAT
from dtx.env.environment import Environment
from dtx.report import read_metrics
from dtx.resources import Resources


@dataclass(frozen=True, kw_only=True)
class PlantedFacts(PlantedFactsSpec, ModelStage):
    """Plants them; conf/dt/planted_facts.yaml says what each field means."""

    facts_are_planted: ClassVar[bool] = True
    headline: ClassVar[tuple[str, ...]] = ("planted_facts/facts", "planted_facts/a_token")

    @property
    def environment(self) -> Environment | None:
        """Where the demonstrations were played."""
        return self.dataset.environment

    @property
    def trained_on(self) -> Dataset:
        """The demonstrations whose facts are planted."""
        return self.dataset

    def resources(self) -> Resources:
        """Weights, and the facts of all steps."""
        weights = FLOAT * self.sizes.parameters
        return Resources(
            memory={"views, context": 3.0 * weights, "dataset": 2e8},
            disk={"views, context": float(weights)},
            seconds=10,
        )

    def run(self, out: Path) -> None:
        """Writes weights, model.json, planted.json, the table ``facts`` and the headline."""
        from dtx.dt.planted_facts.planting import plant

        plant(self, out)

    def summary(self) -> str:
        """How many facts there are in how many dimensions."""
        n = read_metrics(self.path)
        return (
            f"{n['planted_facts/facts']:.0f} facts in {self.dimensions} dimensions, "
            f"{n['planted_facts/a_token']:.2f} true at a state token"
        )
