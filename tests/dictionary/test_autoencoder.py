"""Transcoders and levels of matryoshka dictionaries: what they compute, and where they are put."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.torch
import torch

from dtx.dictionary.autoencoder import TRANSCODERS, SparseAutoencoder
from dtx.dictionary.sae_files import read, write
from dtx.dt.rollout import rollout
from dtx.errors import UserError
from tests.dictionary.test_sae_files import HOOK, OUT, dictionary, transcoder
from tests.dt.test_model import build, contexts
from tests.dt.test_rollout import Corridor
from tests.dt.test_rollout import network as playing


def of_mlp(network, layer: int = 0) -> SparseAutoencoder:
    """The MLP itself as a transcoder of what it reads: its neurons are the features (of a ReLU)."""
    mlp = network.blocks[layer].mlp
    weights = {
        "W_enc": mlp.W_in.detach(), "b_enc": mlp.b_in.detach(),
        "W_dec": mlp.W_out.detach(), "b_dec": mlp.b_out.detach(),
    }  # fmt: skip
    read_at, given = f"blocks.{layer}.ln2.hook_normalized", f"blocks.{layer}.hook_mlp_out"
    return SparseAutoencoder(
        "transcoder", weights, read_at, hook_out=given, apply_b_dec_to_input=False
    )


def test_a_relu_mlp_is_its_own_transcoder_and_its_features_are_its_neurons():
    """An exact identity: without the error term nothing changes but rounding."""
    stage, network = build("dt.model.activation=relu")
    context = contexts(stage)
    sae = of_mlp(network)
    _, cache = network.run_with_cache(context)
    with torch.no_grad():
        features = sae.encode(cache[sae.hook_name])
        with sae.spliced(network, error_term=False):
            logits = network(context)
        silent = features.flatten(0, -2).amax(0).argmax()

        def silenced(values):
            values[..., silent] = 0

        with sae.spliced(network, error_term=False, edit=silenced):
            edited = network(context)
        with network.hooks(fwd_hooks=[("blocks.0.mlp.hook_post", lambda x, hook: silenced(x))]):
            wanted = network(context)
    torch.testing.assert_close(features, cache["blocks.0.mlp.hook_post"])
    torch.testing.assert_close(logits, network(context), rtol=0, atol=1e-5)
    torch.testing.assert_close(edited, wanted, rtol=0, atol=1e-5)
    assert (edited - logits).abs().max() > 1e-3


@pytest.mark.parametrize("architecture", TRANSCODERS)
def test_rollouts_with_a_transcoder_keep_keys_and_values_and_play_alike(architecture):
    model = playing("dt.windows.context=12", "dt.model.n_ctx=35")
    sae = transcoder(architecture)
    starts, targets = [3, 4, 5, 4] * 10, np.repeat([0.1, 0.9], 20).astype(np.float32)
    lengths = []
    for edit in (None, lambda features: features):
        with sae.spliced(model, error_term=False, edit=edit):
            assert (model.by_token is model) == (edit is None)
            lengths.append(rollout(model, Corridor(starts), targets, seed=3).length)
    assert (lengths[0] == lengths[1]).all()
    assert (lengths[0] != rollout(model, Corridor(starts), targets, seed=3).length).any()


def test_a_transcoder_to_what_comes_before_is_refused_where_it_is_put():
    stage, network = build()
    sae = transcoder("transcoder", hook="blocks.1.ln2.hook_normalized")
    with (
        pytest.raises(UserError, match=f"{OUT} is computed before blocks.1.ln2"),
        sae.spliced(network),
    ):
        network(contexts(stage))
    assert not network.has_hooks


def test_a_skip_needs_its_input():
    sae, x = transcoder("skip_transcoder"), torch.randn(5, 16)
    with pytest.raises(ValueError, match="beside its input"):
        sae.decode(sae.encode(x))
    without = sae.decode(sae.encode(x), torch.zeros_like(x))
    torch.testing.assert_close(sae.reconstruct(x) - without, x @ sae.weights["W_skip"].T)
    assert sae.writes == OUT and dictionary("topk").writes == HOOK


def matryoshka(widths=(10, 20, 40)):
    sae = dictionary("jumprelu")
    details = {"training_architecture_details": {"matryoshka_widths": list(widths)}}
    return dataclasses.replace(sae, metadata=details)


def test_levels_of_a_matryoshka_dictionary_are_its_first_features(tmp_path):
    write(matryoshka(), tmp_path)
    sae, x = read(tmp_path), torch.randn(6, 16)
    assert sae.levels == (10, 20, 40) and dictionary("topk").levels == (40,)
    for width in sae.levels:
        level = sae.first(width)
        assert level.size == width and level.levels[-1] == width
        assert torch.equal(level.encode(x), sae.encode(x)[:, :width])
        alone = sae.encode(x) * (torch.arange(40) < width)
        torch.testing.assert_close(level.reconstruct(x), sae.decode(alone))
    write(sae.first(20), tmp_path / "level")
    assert torch.equal(read(tmp_path / "level").encode(x), sae.encode(x)[:, :20])
    with pytest.raises(UserError, match="no level of 15 features; levels: 10, 20, 40"):
        sae.first(15)


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk"])
def test_files_of_a_training_by_the_batchs_threshold_are_read_as_jumprelu(
    architecture, rescale, tmp_path
):
    base = dictionary("standard")
    write(base, tmp_path)
    known = json.loads((tmp_path / "cfg.json").read_text())
    known |= {"architecture": architecture, "k": 5.0, "rescale_acts_by_decoder_norm": rescale}
    known |= {"topk_threshold_lr": 0.01, "decoder_init_norm": 0.1, "aux_loss_coefficient": 1.0}
    if architecture.startswith("matryoshka"):
        known |= {"matryoshka_widths": [8, 40], "use_matryoshka_aux_loss": False}
    (tmp_path / "cfg.json").write_text(json.dumps(known))
    weights = {**base.weights, "topk_threshold": torch.tensor(0.3, dtype=torch.float64)}
    safetensors.torch.save_file(weights, tmp_path / "sae_weights.safetensors")
    found, x = read(tmp_path), torch.randn(50, 16)
    norm = base.weights["W_dec"].norm(dim=1) if rescale else torch.ones(40)
    before = ((x - base.weights["b_dec"]) @ base.weights["W_enc"] + base.weights["b_enc"]) * norm
    wanted = before * (before > 0.3)
    torch.testing.assert_close(found.encode(x), wanted)
    torch.testing.assert_close(
        found.reconstruct(x), (wanted / norm) @ base.weights["W_dec"] + base.weights["b_dec"]
    )
    assert (
        found.architecture == "jumprelu" and found.metadata["training_architecture"] == architecture
    )
    assert found.levels == ((8, 40) if architecture.startswith("matryoshka") else (40,))
    assert (found.encode(x) > 0).any() and not (found.encode(x) > 0).all()
