"""The stage that trains a Decision Transformer, or a behaviour clone, on demonstrations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dtx.dataset.dataset import Dataset
from dtx.dt.model_stage import ModelStage
from dtx.dt.sizes import FLOAT, Sizes
from dtx.dt.spec import Padding, Windows
from dtx.dt.tokens import layout_of
from dtx.dt.training.spec import TrainingSpec
from dtx.env.environment import Environment
from dtx.errors import UserError
from dtx.report import read_metrics
from dtx.resources import OPERATIONS, Resources
from dtx.training.trainer import Accelerator


@dataclass(frozen=True, kw_only=True)
class DecisionTransformer(TrainingSpec, ModelStage):
    """Trains on windows of the demonstrations; conf/dt/memory_dt.yaml says what each field means."""

    headline: ClassVar[tuple[str, ...]] = ("dt/validation_loss", "dt/validation_accuracy")

    @property
    def environment(self) -> Environment | None:
        """Where the demonstrations were played."""
        return self.dataset.environment

    @property
    def trained_on(self) -> Dataset:
        """The demonstrations."""
        return self.dataset

    @property
    def trained_windows(self) -> Windows:
        """How windows of the demonstrations are drawn in training."""
        return self.windows

    @property
    def sizes(self) -> Sizes:
        """Of the architecture, with this stage's windows."""
        return self.model.sizes(self.tokens)

    def resources(self) -> Resources:
        """Weights with gradients and moments, a batch's activations, and the held-out windows in between."""
        sizes, each = self.sizes, self.batch_size / self.trainer.devices
        weights = FLOAT * sizes.parameters
        batch = each * sizes.activations() if self.steps else 0.0
        # Held-out windows keep one block's activations at a time; most are far shorter than the longest.
        held_out = self.validation_windows * sizes.activations() / sizes.n_layers / 3
        # Forward and backward are three passes; windows that are equal or short save a third of them.
        of_step = 2 * self.batch_size * sizes.operations() / OPERATIONS
        gpus = self.trainer.devices if self.trainer.accelerator is Accelerator.gpu else 0
        return Resources(
            memory={
                "model.n_layers, model.d_model, model.d_mlp": self.trainer.devices * 4 * weights,
                "batch_size, model.n_layers, model.d_model, windows.context": self.trainer.devices
                * batch,
                "validation_windows, model.d_model, windows.context": held_out,
                "kept_checkpoints": 100.0 * self.kept_checkpoints,
            },
            disk={
                "model.n_layers, model.d_model, model.d_mlp": (4 if self.steps else 1) * weights,
                "kept_checkpoints, model.n_layers, model.d_model": (
                    1 + min(self.kept_checkpoints, self.steps)
                )
                * weights,
            },
            seconds=self.steps * (0.04 + of_step) + 1e-3 * self.validation_windows,
            gpus=gpus,
        )

    def run(self, out: Path) -> None:
        """Train; writes weights.safetensors, model.json, checkpoints/, curves and headline."""
        from dtx.dt.training.train import train

        train(self, out)

    def summary(self) -> str:
        """What kind of model it is, in which precision it was trained, and how well it predicts."""
        n = read_metrics(self.path)
        kind = "with reward-to-go" if self.reward_to_go else "behaviour clone"
        model = f"{kind}, {f'{self.steps} steps' if self.steps else 'untrained'}"
        if (half := n.get("dt/bfloat16")) is not None:  # earlier records do not say
            model += f" in {'bfloat16' if half else 'float32'}"
        loss, accuracy = n.get("dt/validation_loss"), n.get("dt/validation_accuracy")
        if loss is None or accuracy is None:  # no episode was held out
            return model
        return f"{model}: held-out loss {loss:.3f} nats, accuracy {accuracy:.3f}"

    def checkpoints(self) -> dict[int, Path]:
        """Weights kept along the way, by step; ``dtx.dt.model.load(self.path, weights)`` reads one."""
        files = (self.path / "checkpoints").glob("step-*.safetensors")
        return {int(path.stem.removeprefix("step-")): path for path in sorted(files)}

    def check(self) -> Iterator[tuple[str, str]]:
        """Numbers that must fit each other."""
        model, windows = self.model, self.windows
        yield from self._check_environment()
        if self.tokens > model.n_ctx:
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
        if self.optimiser.warm_up > max(self.steps, 0):
            yield "optimiser.warm_up", f"must lie between 0 and steps ({self.steps})"
        if self.trainer.devices > self.batch_size > 0:
            yield (
                "trainer.devices",
                f"{self.trainer.devices} cannot share batches of {self.batch_size} windows; use at "
                f"most {self.batch_size} or a larger batch_size",
            )

    def _check_environment(self) -> Iterator[tuple[str, str]]:
        """What the demonstrations' environment asks of the model, where both say so before anything runs."""
        env = self.environment
        if env is None:
            return
        try:
            limit, actions = env.horizon, env.n_actions
        except UserError:  # the environment's own check says what is wrong with it
            return
        windows = self.windows
        later = windows.padding is Padding.right and not windows.first_share
        if later and windows.context >= limit:
            yield (
                "windows.first_share",
                f"0, but no window of {windows.context} steps starts later in an episode of at most {limit}; "
                "raise it, or lower windows.context",
            )
        if 0 < self.model.n_timesteps < limit:
            yield (
                "model.n_timesteps",
                f"{self.model.n_timesteps} timesteps are known, but an episode may last {limit}; "
                f"raise it to that (dt.model.n_timesteps={limit}), or give env.max_steps",
            )
        if 0 < self.model.n_actions < actions:
            yield "model.n_actions", f"{self.model.n_actions}, but the environment has {actions}"
