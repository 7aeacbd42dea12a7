"""Stages whose product is a Decision Transformer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dtx.errors import UserError
from dtx.stage import Stage

if TYPE_CHECKING:
    from dtx.dt.circuit import Circuit
    from dtx.dt.model import DecisionTransformerModel
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

    def checkpoints(self) -> dict[int, Path]:
        """Weights kept along the way, by step; empty for a model that was not trained here."""
        return {}

    def circuit(self) -> Circuit:
        """What is known about the model's circuit by construction.

        Raises:
            UserError: Nothing is.
        """
        from dtx.dt.circuit import Circuit

        if not self.circuit_is_known:
            raise UserError(f"{self.label}: its circuit is not known")
        return Circuit.read(self.path)
