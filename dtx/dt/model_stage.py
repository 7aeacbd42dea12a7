"""Stages whose product is a Decision Transformer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dtx.dataset.dataset import Dataset
from dtx.dt.sizes import FLOAT, Sizes
from dtx.dt.spec import Windows
from dtx.errors import UserError
from dtx.resources import OPERATIONS, Resources
from dtx.stage import Stage

if TYPE_CHECKING:
    from dtx.dt.circuit import Circuit
    from dtx.dt.model import DecisionTransformerModel
    from dtx.dt.model_config import ModelConfig
    from dtx.dt.planted_truth import PlantedTruth
    from dtx.env.environment import Environment


@dataclass(frozen=True, kw_only=True)
class ModelStage(Stage):
    """Interface of stages that provide a model: trained, compiled, or imported.

    Attributes:
        circuit_is_known: Whether :meth:`circuit` gives one, by construction.
        facts_are_planted: Whether :meth:`planted_facts` gives some.
    """

    circuit_is_known: ClassVar[bool] = False
    facts_are_planted: ClassVar[bool] = False

    @property
    def environment(self) -> Environment | None:
        """What the model was made to act in; None if the stage does not say."""
        return None

    def load(self) -> DecisionTransformerModel:
        """The model, in evaluation mode."""
        from dtx.dt.model import load

        return load(self.path)

    def model_config(self) -> ModelConfig:
        """The network's config; here as the committed artefact has it."""
        from dtx.dt.model_config import ModelConfig

        return ModelConfig.read(self.path)

    @property
    def sizes(self) -> Sizes | None:
        """Sizes of the model as the config has them; None where only its files do."""
        return None

    @property
    def kept_steps(self) -> Collection[int] | None:
        """Steps whose weights are kept; None: not known before it has run."""
        return None

    def passing(
        self, windows: float, steps: int | None = None, held: Mapping[str, float] | None = None
    ) -> Resources:
        """What it takes to pass so many windows through the model.

        Args:
            windows: Forward passes of one window; a backward pass counts as two.
            steps: In each window; None: as many as the model reads.
            held: Windows whose streams are in memory at a time, by the fields that they follow from.
        """
        sizes = self.sizes
        if sizes is None:
            return Resources()
        tokens = None if steps is None else 3 * steps
        stream = sizes.activations(tokens) / 4
        return Resources(
            memory={
                "the model's sizes": 2 * FLOAT * sizes.parameters,
                **{
                    f"{fields} or the model's sizes": count * stream
                    for fields, count in (held or {}).items()
                },
            },
            disk={"the model's sizes": 2e6},
            seconds=1 + windows * (1e-5 + sizes.operations(tokens) / OPERATIONS),
        )

    @property
    def trained_on(self) -> Dataset | None:
        """The demonstrations that the model was trained on; None: on none of a stage here."""
        return None

    @property
    def trained_windows(self) -> Windows | None:
        """How windows of :attr:`trained_on` were drawn in training; None as there."""
        return None

    def checkpoints(self) -> dict[int, Path]:
        """Weights kept during training, by step; empty for a model that was not trained here."""
        return {}

    def circuit(self) -> Circuit:
        """The model's circuit as it is known by construction.

        Raises:
            UserError: It is not known.
        """
        from dtx.dt.circuit import Circuit

        if not self.circuit_is_known:
            raise UserError(f"{self.label}: its circuit is not known")
        return Circuit.read(self.path)

    def planted_facts(self) -> PlantedTruth:
        """Which facts its residual stream holds, and in which direction, by construction.

        Raises:
            UserError: None were planted.
        """
        from dtx.dt.planted_truth import PlantedTruth

        if not self.facts_are_planted:
            raise UserError(f"{self.label}: no facts were planted in it; dt=planted_facts has some")
        return PlantedTruth.read(self.path)
