"""Small models of all kinds for the explorer: random ones in every environment, and the planted one."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dtx.app.asked import Explorer
from dtx.app.models import Catalogue, Entry, of_folder
from dtx.app.places import place
from dtx.app.training_data import Returns, TrainingData
from dtx.config.compose import build_group
from dtx.dt.model import DecisionTransformerModel, initialise, save
from dtx.dt.model_config import ModelConfig

SHAPE: dict[str, Any] = {
    "n_layers": 2, "n_heads": 2, "d_model": 16, "d_head": 8, "d_mlp": 24, "act_fn": "gelu",
    "gated_mlp": False, "normalization_type": "LN", "n_steps": 8, "n_timesteps": 300,
    "time_embedding": "learned", "positional_embedding": True, "state_bias": True,
    "reward_to_go": True, "left_padding": False,
}  # fmt: skip


def config(**changes: Any) -> ModelConfig:
    """A small model's config; its window holds the tokens of its steps."""
    values = SHAPE | changes
    per = 3 if values["reward_to_go"] else 2
    return ModelConfig(n_ctx=per * values["n_steps"] - 1, **values)


def model(seed: int = 0, **changes: Any) -> DecisionTransformerModel:
    """A small model with random weights, biases too."""
    network = DecisionTransformerModel(config(**changes))
    initialise(network, None, 0.3, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.rpartition(".")[2].startswith("b_"):
                parameter.normal_(0.0, 0.1, generator=generator)
    return network.eval()


def entry(folder: Path, id: str, env: str, title: str = "", seed: int = 0, **changes: Any) -> Entry:
    """A small model's folder as an entry of the catalogue."""
    where = place(env)
    here = folder / id
    here.mkdir()
    save(model(seed, n_actions=where.environment.n_actions, **changes), here)
    view = np.zeros((1, 7, 7, 3), np.uint8)
    known = TrainingData(Returns(-0.5 if "obstacles" in env else 0.0, 0.9), view)
    return of_folder(here, id, title or id, where, lambda: known)


@functools.cache
def planted_folder() -> Path:
    """The compiled model's files, made once a process."""
    made = tempfile.TemporaryDirectory(prefix="dtx-planted-")
    folder = Path(made.name)
    _kept.append(made)
    build_group("dt/planted").run(folder)
    return folder


_kept: list[tempfile.TemporaryDirectory] = []


def explorer(folder: Path) -> Explorer:
    """An explorer of one small model of each kind."""
    return Explorer(Catalogue(None, others=entries(folder)))


def entries(folder: Path) -> list[Entry]:
    """One small model of each kind."""
    planted = of_folder(planted_folder(), "planted", "planted model", place("memory"), None)
    return [
        entry(folder, "memory1", "memory"),
        planted,
        entry(folder, "memory2", "memory", seed=3, time_embedding="linear", gated_mlp=True),
        entry(folder, "clone", "memory", seed=4, reward_to_go=False),
        entry(folder, "leftpad", "memory", seed=5, left_padding=True),
        entry(folder, "plain", "memory", seed=6, normalization_type=None, act_fn="relu"),
        entry(folder, "keydoor", "door_key", seed=7),
        entry(folder, "obstacles", "dynamic_obstacles", seed=8),
    ]
