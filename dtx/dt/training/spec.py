"""Settings of the training of a Decision Transformer; conf/dt/memory_dt.yaml says what each field means."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np

from dtx.config.ranges import (
    AT_MOST,
    Count,
    LearningRate,
    Natural,
    NonNegative,
    Positive,
    Range,
    Seed,
    Share,
    ShareBelowOne,
)
from dtx.dataset.dataset import Dataset
from dtx.dt.spec import Architecture, Padding, Windows
from dtx.dt.tokens import layout_of
from dtx.stage import RUNTIME
from dtx.training.trainer import Trainer

if TYPE_CHECKING:
    from dtx.dataset.episodes import Episodes
    from dtx.dt.model_config import ModelConfig

Steps = Annotated[int, Range("must be 0 (an untrained model) or more", low=0), AT_MOST]
"""Optimisation steps."""
MOST_KEPT = 100_000
Kept = Annotated[int, Range(f"must be between 0 and {MOST_KEPT}", low=0, high=MOST_KEPT)]
"""Checkpoints that are kept."""


class OptimiserKind(enum.Enum):
    """``muon``: Muon (Jordan et al., 2024) on the blocks' matrices and AdamW elsewhere; ``adamw``."""

    muon = "muon"
    adamw = "adamw"


class Precision(enum.Enum):
    """Number type of the matrix products in training; weights and sums stay float32.

    ``auto``: bfloat16 on a processor that has instructions for it, where it is half again as fast.
    """

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


@dataclass(frozen=True, kw_only=True)
class Initialisation:
    """How weights start."""

    identity_name: ClassVar[str] = "dtx.dt.decision_transformer.Initialisation"

    matrix_std: Positive | None
    embedding_std: Positive
    centre_state: bool


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """What changes the weights."""

    identity_name: ClassVar[str] = "dtx.dt.decision_transformer.Optimiser"

    method: OptimiserKind
    learning_rate: LearningRate
    matrix_learning_rate: LearningRate
    warm_up: Natural
    cycles: Count
    final_share: Share
    weight_decay: NonNegative
    betas: tuple[ShareBelowOne, ShareBelowOne]
    gradient_norm: Positive


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """All that training reads: the demonstrations, the model, and how it is trained."""

    dataset: Dataset
    reward_to_go: bool
    model: Architecture
    windows: Windows
    initialisation: Initialisation
    optimiser: Optimiser
    steps: Steps
    batch_size: Count
    precision: Precision
    seed: Seed
    kept_checkpoints: Kept
    validation_windows: Count
    log_every: Count
    checkpoint_every: Count = field(metadata=RUNTIME)
    trainer: Trainer = field(metadata=RUNTIME)

    @property
    def tokens(self) -> int:
        """Tokens of the longest window; its last action is not one."""
        return layout_of(self.reward_to_go).tokens(self.windows.context)

    @property
    def kept_steps(self) -> set[int]:
        """Steps whose weights are kept: 0, and others evenly spaced in their logarithm up to the last."""
        if self.kept_checkpoints < 1:
            return set()
        if self.steps < 1:
            return {0}
        spaced = np.geomspace(1, self.steps, min(self.kept_checkpoints, MOST_KEPT))
        return {0, self.steps, *(round(s) for s in spaced)}

    def model_config(self) -> ModelConfig:
        """The transformer's config, with what this stage adds to its architecture."""
        return self.model.config(
            n_steps=self.windows.context,
            state_bias=self.initialisation.centre_state,
            reward_to_go=self.reward_to_go,
            left_padding=self.windows.padding is Padding.left,
        )

    def demonstrations(self) -> Episodes:
        """The episodes that it is trained on."""
        return self.dataset.load()

    def achieved(self) -> np.ndarray:
        """Returns (e,) by which windows are balanced: those that the episodes achieved.

        Whatever :meth:`demonstrations` makes of the rewards: drawn by returns that were dealt anew, windows
        would have an outcome more often at some rewards-to-go than at others, which would then say something.
        """
        return self.dataset.load().returns
