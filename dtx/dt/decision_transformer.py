"""The stage that trains a Decision Transformer, or a behaviour clone, on demonstrations."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dtx.dataset.dataset import Dataset
from dtx.dt.model_stage import ModelStage
from dtx.dt.tokens import layout_of
from dtx.report import read_metrics
from dtx.stage import RUNTIME
from dtx.training.trainer import Trainer

if TYPE_CHECKING:
    from dtx.dataset.episodes import Episodes
    from dtx.dt.model import ModelConfig
    from dtx.env.environment import Environment


class Activation(enum.Enum):
    """The MLP's non-linearity."""

    gelu = "gelu"
    relu = "relu"


class TimeEmbedding(enum.Enum):
    """How a timestep becomes a vector: one learned row each, or a multiple of one vector."""

    learned = "learned"
    linear = "linear"


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
    a third each of success, wrong and truncated.
    """

    none = "none"
    success = "success"
    outcome = "outcome"


class Method(enum.Enum):
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
class Architecture:
    """Sizes and switches of the transformer; conf/dt/memory_dt.yaml says what each one means."""

    n_layers: int
    d_model: int
    n_heads: int
    d_mlp: int
    activation: Activation
    gated_mlp: bool
    layer_norm: bool
    n_ctx: int
    n_timesteps: int
    time_embedding: TimeEmbedding
    positional_embedding: bool
    n_actions: int

    def config(
        self, *, n_steps: int, state_bias: bool, reward_to_go: bool, left_padding: bool
    ) -> ModelConfig:
        """The transformer's config, with what a stage adds to its architecture."""
        from dtx.dt.model import ModelConfig

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


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Which windows of the episodes are trained on."""

    context: int
    padding: Padding
    first_share: float
    end_share: float
    balance: Balance


@dataclass(frozen=True, kw_only=True)
class Initialisation:
    """How weights start."""

    matrix_std: float | None
    embedding_std: float
    centre_state: bool


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """What changes the weights."""

    method: Method
    learning_rate: float
    matrix_learning_rate: float
    warm_up: int
    cycles: int
    final_share: float
    weight_decay: float
    betas: tuple[float, float]
    gradient_norm: float


@dataclass(frozen=True, kw_only=True)
class DecisionTransformer(ModelStage):
    """Trains on windows of the demonstrations; conf/dt/memory_dt.yaml says what each field means."""

    dataset: Dataset
    reward_to_go: bool
    model: Architecture
    windows: Windows
    initialisation: Initialisation
    optimiser: Optimiser
    steps: int
    batch_size: int
    precision: Precision
    seed: int
    kept_checkpoints: int
    validation_windows: int
    log_every: int
    checkpoint_every: int = field(metadata=RUNTIME)
    trainer: Trainer = field(metadata=RUNTIME)

    @property
    def environment(self) -> Environment | None:
        """Where the demonstrations were played."""
        return self.dataset.environment

    @property
    def tokens(self) -> int:
        """Tokens of the longest window; its last action is not one."""
        return layout_of(self.reward_to_go).tokens(self.windows.context)

    def model_config(self) -> ModelConfig:
        """The transformer's config, with what this stage adds to its architecture."""
        return self.model.config(
            n_steps=self.windows.context,
            state_bias=self.initialisation.centre_state,
            reward_to_go=self.reward_to_go,
            left_padding=self.windows.padding is Padding.left,
        )

    def run(self, out: Path) -> None:
        """Train; writes weights.safetensors, model.json, checkpoints/, curves and headline."""
        from dtx.dt.training.train import train

        train(self, out)

    def demonstrations(self) -> Episodes:
        """The episodes that it is trained on."""
        return self.dataset.load()

    def summary(self) -> str:
        """What kind of model it is, and how well it predicts held-out actions."""
        n = read_metrics(self.path)
        kind = "with reward-to-go" if self.reward_to_go else "behaviour clone"
        said = f"{kind}, {f'{self.steps} steps' if self.steps else 'untrained'}"
        loss, accuracy = n.get("dt/validation_loss"), n.get("dt/validation_accuracy")
        if loss is None or accuracy is None:  # no episode was held out
            return said
        return f"{said}: held-out loss {loss:.3f} nats, accuracy {accuracy:.3f}"

    def checkpoints(self) -> dict[int, Path]:
        """Weights kept along the way, by step; ``dtx.dt.model.load(self.path, weights)`` reads one."""
        found = (self.path / "checkpoints").glob("step-*.safetensors")
        return {int(path.stem.removeprefix("step-")): path for path in sorted(found)}

    def check(self) -> Iterator[tuple[str, str]]:
        model, windows, optimiser = self.model, self.windows, self.optimiser
        if model.n_heads < 1 or model.d_model % model.n_heads:
            yield (
                "model.n_heads",
                f"{model.n_heads} heads do not divide d_model {model.d_model}; choose a divisor",
            )
        for name in ("n_layers", "d_model", "d_mlp", "n_actions", "n_timesteps"):
            if getattr(model, name) < 1:
                yield f"model.{name}", "must be at least 1"
        yield from self._check_environment()
        if windows.context < 1:
            yield "windows.context", "must be at least 1 step"
        elif self.tokens > model.n_ctx:
            longest = layout_of(self.reward_to_go).steps(model.n_ctx)
            yield (
                "windows.context",
                f"{windows.context} steps are {self.tokens} tokens, more than the position table's "
                f"model.n_ctx={model.n_ctx}; use at most {longest} steps or a larger n_ctx",
            )
        if windows.context > model.n_timesteps:
            yield (
                "windows.context",
                f"{windows.context} steps are more than the time table's "
                f"model.n_timesteps={model.n_timesteps}",
            )
        for name in ("first_share", "end_share"):
            if not 0 <= getattr(windows, name) <= 1:
                yield f"windows.{name}", "is a share: between 0 and 1"
        for name in ("learning_rate", "matrix_learning_rate", "gradient_norm"):
            if getattr(optimiser, name) <= 0:
                yield f"optimiser.{name}", "must be above 0"
        if not 0 <= optimiser.warm_up <= max(self.steps, 0):
            yield "optimiser.warm_up", f"must lie between 0 and steps ({self.steps})"
        if optimiser.cycles < 1:
            yield "optimiser.cycles", "must be at least 1"
        if not 0 <= optimiser.final_share <= 1:
            yield "optimiser.final_share", "is a share of the learning rate: between 0 and 1"
        if optimiser.weight_decay < 0:
            yield "optimiser.weight_decay", "must not be negative"
        if not all(0 <= beta < 1 for beta in optimiser.betas):
            yield "optimiser.betas", "must lie in [0, 1)"
        for name in ("matrix_std", "embedding_std"):
            deviation = getattr(self.initialisation, name)
            if deviation is not None and deviation <= 0:
                yield f"initialisation.{name}", "is a standard deviation: above 0"
        if self.steps < 0:
            yield "steps", "must be 0 (an untrained model) or more"
        for name in ("batch_size", "log_every", "checkpoint_every", "validation_windows"):
            if getattr(self, name) < 1:
                yield name, "must be at least 1"
        if self.trainer.devices > self.batch_size:
            yield (
                "trainer.devices",
                f"{self.trainer.devices} cannot share batches of {self.batch_size} windows; use at "
                f"most {self.batch_size} or a larger batch_size",
            )
        for name in ("kept_checkpoints", "seed"):
            if getattr(self, name) < 0:
                yield name, "must be 0 or more"

    def _check_environment(self) -> Iterator[tuple[str, str]]:
        """What the demonstrations' environment asks of the model, where both say so before anything runs."""
        env = self.environment
        if env is None:
            return
        limit, actions = env.max_steps, env.n_actions
        if limit is not None and 0 < self.model.n_timesteps < limit:
            yield (
                "model.n_timesteps",
                f"{self.model.n_timesteps} timesteps are known, but an episode may last {limit} "
                "(env.max_steps); raise it to that",
            )
        if 0 < self.model.n_actions < actions:
            yield "model.n_actions", f"{self.model.n_actions}, but the environment has {actions}"
