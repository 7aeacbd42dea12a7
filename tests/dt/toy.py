"""Random demonstrations and tiny models."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dtx.config.compose import build_group
from dtx.dataset.dataset import Dataset
from dtx.dataset.episodes import Episodes
from dtx.dt.decision_transformer import DecisionTransformer
from dtx.dt.model_stage import ModelStage
from dtx.stage import Stage


def episodes(n: int = 60, seed: int = 0, distinct: int = 6, horizon: int = 20) -> Episodes:
    """Episodes of few observations and actions, so that some windows are equal."""
    rng = np.random.default_rng(seed)
    outcome = np.arange(n) % 3
    length = np.where(outcome == 2, horizon, rng.integers(1, horizon, n)).astype(np.int32)
    length[outcome == 0] = np.minimum(length[outcome == 0], 4)
    start = np.cumsum(length) - length
    total = int(length.sum())
    reward = np.zeros(total, np.float32)
    won = outcome == 0
    reward[(start + length - 1)[won]] = 1 - 0.9 * length[won] / horizon
    observations = np.zeros((distinct, 7, 7, 3), np.uint8)
    observations[..., 0] = rng.integers(0, 11, (distinct, 7, 7))
    observations[..., 1] = rng.integers(0, 6, (distinct, 7, 7))
    return Episodes(
        observations=observations,
        observation=rng.integers(0, distinct, total).astype(np.int32),
        action=rng.integers(0, 2, total).astype(np.uint8),
        reward=reward,
        start=start.astype(np.int64),
        length=length,
        outcome=outcome.astype(np.uint8),
        temperature=np.ones(n, np.float32),
        split=(np.arange(n) % 5 == 4).astype(np.uint8),
    )


@dataclass(frozen=True, kw_only=True)
class Recorded(Dataset):
    """Random episodes in the place of a dataset stage."""

    seed: int = 0

    def run(self, out: Path) -> None:
        (out / "seed.txt").write_text(str(self.seed))

    def load(self) -> Episodes:
        return episodes(seed=self.seed)


TINY = (
    "dt.model.n_layers=2",
    "dt.model.d_model=16",
    "dt.model.n_heads=2",
    "dt.model.d_mlp=24",
    "dt.model.n_ctx=11",
    "dt.windows.context=4",
    "dt.steps=6",
    "dt.batch_size=16",
    "dt.optimiser.warm_up=2",
    "dt.validation_windows=8",
    "dt.kept_checkpoints=3",
    "dt.log_every=2",
    "dt.checkpoint_every=2",
)


def tiny(*overrides: str, option: str = "dt/memory_dt", **changes: Any) -> DecisionTransformer:
    """A tiny stage on random demonstrations."""
    stage = build_group(option, [*TINY, *overrides])
    return dataclasses.replace(stage, dataset=Recorded(), **changes)


@dataclass(frozen=True, kw_only=True)
class Drawn(ModelStage):
    """A tiny model with random weights and two kept checkpoints, in the place of a trained one."""

    dataset: Stage
    seed: int = 0

    def run(self, out: Path) -> None:
        from dtx.dt import model as models

        network = models.DecisionTransformerModel(tiny().model_config())
        (out / "checkpoints").mkdir(exist_ok=True)
        for step in (0, 6):
            models.initialise(network, None, 0.3, self.seed + 10 * step)
            models.save_weights(network, out / "checkpoints" / f"step-{step:06d}.safetensors")
        models.save(network, out)
