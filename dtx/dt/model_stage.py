"""Stages whose product is a Decision Transformer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dtx.dataset.dataset import Dataset
from dtx.dt.spec import Windows
from dtx.errors import UserError
from dtx.stage import Stage

if TYPE_CHECKING:
    from dtx.dt.circuit import Circuit
    from dtx.dt.model import DecisionTransformerModel
    from dtx.dt.model_config import ModelConfig
    from dtx.env.environment import Environment


@dataclass(frozen=True, kw_only=True)
class ModelStage(Stage):
    """Interface of stages that provide a model: trained, compiled, or imported.

    Attributes:
        circuit_is_known: Whether :meth:`circuit` gives one, by construction.
    """

    circuit_is_known: ClassVar[bool] = False

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
    def sizes(self) -> ModelConfig | None:
        """Sizes of the model as far as they are known before it runs; None where only its files will say."""
        try:
            return self.model_config()
        except UserError:  # not in the store yet, or no store is open
            return None

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
