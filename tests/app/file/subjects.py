"""Small models of several architectures that the page's engine covers, and an explorer that has them."""

from __future__ import annotations

from pathlib import Path

from dtx.app.asked import Explorer
from dtx.app.models import Catalogue, of_folder
from dtx.app.places import Place
from dtx.dt.model import DecisionTransformerModel, initialise, save
from dtx.dt.model_config import ModelConfig

COMMON = {
    "n_layers": 2,
    "n_heads": 2,
    "d_model": 24,
    "d_head": 8,
    "d_mlp": 40,
    "act_fn": "gelu",
    "gated_mlp": False,
    "normalization_type": "LN",
    "n_steps": 6,
    "n_timesteps": 250,
    "time_embedding": "learned",
    "positional_embedding": True,
    "state_bias": True,
    "reward_to_go": True,
    "left_padding": False,
}
ARCHITECTURES = {
    "usual": {},
    "left_padded": {"left_padding": True, "positional_embedding": False, "d_mlp": 33, "d_head": 5},
    "clone": {"reward_to_go": False, "gated_mlp": True, "n_layers": 1},
    "unnormalised": {
        "normalization_type": None,
        "act_fn": "relu",
        "time_embedding": "linear",
        "state_bias": False,
        "n_heads": 3,
    },
    "gated": {"gated_mlp": True, "act_fn": "relu", "n_steps": 3},
}


def model(name: str, n_actions: int = 7) -> DecisionTransformerModel:
    """A model of an architecture with random weights, biases and normalisations too."""
    import torch

    values = {**COMMON, **ARCHITECTURES[name]}
    per_step = 3 if values["reward_to_go"] else 2
    cfg = ModelConfig(**values, n_ctx=values["n_steps"] * per_step - 1, n_actions=n_actions)
    made = DecisionTransformerModel(cfg)
    initialise(made, None, 0.3, seed=len(name))
    generator = torch.Generator().manual_seed(len(name))
    with torch.no_grad():
        for parameter_name, parameter in made.named_parameters():
            leaf = parameter_name.rpartition(".")[2]
            if leaf in ("w", "b") or leaf.startswith("b_"):
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
            if leaf == "W_time" and cfg.time_embedding == "linear":
                parameter.mul_(0.1)
    return made


def explorer(folder: Path, place: Place, names: tuple[str, ...] = tuple(ARCHITECTURES)) -> Explorer:
    """An explorer that has these models alone."""
    entries = []
    for name in names:
        (folder / name).mkdir()
        save(model(name, place.environment.n_actions), folder / name)
        entries.append(of_folder(folder / name, name, name, place, None))
    return Explorer(Catalogue(None, None, entries))
