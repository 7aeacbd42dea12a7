"""The published 2-layer gated model must compute here what it computed in the study's own code."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dtx.dt.context import Context
from dtx.dt.model import DecisionTransformerModel, ModelConfig

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "parity"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="../shared/parity is not here")


@pytest.fixture(scope="module")
def network() -> DecisionTransformerModel:
    published = torch.load(FOLDER / "MemoryGatedMLP.pt", weights_only=True)["model_state_dict"]
    cfg = ModelConfig(
        n_layers=2,
        n_heads=4,
        d_model=128,
        d_head=32,
        d_mlp=256,
        act_fn="relu",
        gated_mlp=True,
        normalization_type="LN",
        n_ctx=26,
        n_steps=9,
        n_timesteps=1001,
        time_embedding="learned",
        positional_embedding=True,
        state_bias=False,
        reward_to_go=True,
        left_padding=True,
    )
    weights = {
        "embed.W_S": published["state_embedding.weight"].T,
        "embed.W_A": published["action_embedding.0.weight"],
        "embed.W_R": published["reward_embedding.0.weight"].T,
        "embed.W_time": published["time_embedding.weight"],
        "unembed.W_U": published["action_predictor.weight"].T,
        "unembed.b_U": published["action_predictor.bias"],
    }
    for name, value in published.items():
        if name.startswith("transformer.") and not name.endswith((".mask", ".IGNORE")):
            weights[name.removeprefix("transformer.")] = value
    model = DecisionTransformerModel(cfg)
    model.load_state_dict(weights)
    return model.eval()


@pytest.fixture(scope="module")
def windows():
    return np.load(FOLDER / "memorydt_gated_windows.npz")


def context_of(windows) -> Context:
    """The published windows as the model reads them."""
    states = torch.from_numpy(windows["states"]).float()  # b t x y c
    return Context.of(
        one_hot=states.permute(0, 1, 4, 2, 3).flatten(2),
        action=torch.from_numpy(np.pad(windows["actions"], ((0, 0), (0, 1)), constant_values=7)),
        reward_to_go=torch.from_numpy(windows["rtgs"]),
        timestep=torch.from_numpy(windows["timesteps"]),
    )


def test_logits_attention_and_residuals_are_the_published_ones(network, windows):
    context = context_of(windows)
    with torch.no_grad():
        logits, cache = network.run_with_cache(context)
        fused = network(context)
    pairs = {"action_logits": logits}
    for layer in range(2):
        pairs[f"attn_pattern_{layer}"] = cache[f"blocks.{layer}.attn.hook_pattern"]
        for place in ("pre", "mid", "post"):
            pairs[f"resid_{place}_{layer}"] = cache[f"blocks.{layer}.hook_resid_{place}"]
    for name, ours in pairs.items():
        assert np.abs(ours.numpy() - windows[name]).max() < 1e-5, name
    assert np.abs(fused.numpy() - windows["action_logits"]).max() < 1e-5
