"""The published 2-layer gated model must compute here what it computed in the study's own code."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dtx.config.compose import build_group
from dtx.dt.context import Context
from dtx.dt.imported import Imported
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.rollout import decision_contexts, greedy_by_layout
from dtx.exchange.published.checkpoint import digest_of
from tests.published import put_into_store

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "parity"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="../shared/parity is not here")


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> DecisionTransformerModel:
    """The published model, as `dtx import` puts it into a store and every analysis loads it."""
    file = FOLDER / "MemoryGatedMLP.pt"
    stage = Imported(file=file, digest=digest_of(file))
    return put_into_store(stage, tmp_path_factory.mktemp("published"))


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


def test_its_greedy_success_by_reward_to_go(network):
    """The shares of the README at ../shared/parity: four layouts, 50 steps at most."""
    targets = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
    outcome = greedy_by_layout(network, build_group("env/memory").decision, targets)
    shares = [0, 0, 0, 0, 0.25, 0.25, 0.25, 0.5, 1, 1, 1]
    assert (outcome == 0).mean(1).tolist() == shares


def test_where_its_first_layer_looks(network):
    """Attention on the way to the decision: of L0H3's state queries, and of L0H1's last one."""
    env = build_group("env/memory")
    padding = network.cfg.n_steps - 1 - env.decision.step
    on = {}
    for target, context in zip(
        (0.892, 0.0), decision_contexts(network, env.decision, [0.892, 0]), strict=True
    ):
        with torch.no_grad():
            _, cache = network.run_with_cache(context)
        pattern = cache["blocks.0.attn.hook_pattern"]
        queries = pattern[:, 3, 1::3][:, padding:]  # head 3, the states that were seen
        for k, kind in enumerate("RSA"):
            on[target, kind] = float(queries[..., k::3].sum(-1).mean())
        on[target, "instruction"] = float(pattern[:, 1, -1, 3 * padding + 1].mean())
    assert on[0.892, "R"] == pytest.approx(0.81, abs=0.01)
    assert on[0.0, "A"] == pytest.approx(0.77, abs=0.01)
    assert on[0.892, "instruction"] == pytest.approx(0.98, abs=0.01)
    assert on[0.0, "instruction"] == pytest.approx(0.95, abs=0.01)
