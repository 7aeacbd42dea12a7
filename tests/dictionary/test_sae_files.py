import dataclasses
import json

import numpy as np
import pytest
import torch

from dtx.dictionary.autoencoder import ARCHITECTURES, TRANSCODERS, SparseAutoencoder
from dtx.dictionary.sae_files import read, write
from dtx.dt.edits import Depends, Edit
from dtx.dt.rollout import rollout
from dtx.errors import UserError
from tests.dt.test_model import build, contexts
from tests.dt.test_rollout import Corridor
from tests.dt.test_rollout import network as playing

HOOK = "blocks.0.hook_resid_post"


OUT = "blocks.0.hook_mlp_out"


def transcoder(architecture: str, hook: str = "blocks.0.ln2.hook_normalized", **changes):
    """Random, to an MLP's output."""
    sae = dictionary(architecture, hook, f=40, beside=TRANSCODERS[architecture])
    generator = torch.Generator().manual_seed(4)
    if "skip" in architecture:
        sae.weights["W_skip"] = torch.randn(16, 16, generator=generator) * 0.1
    changes = {"hook_out": OUT, "apply_b_dec_to_input": False, **changes}
    return dataclasses.replace(sae, **changes)


def dictionary(
    architecture: str, hook: str = HOOK, d: int = 16, f: int = 40, beside=None, **changes
):
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(*shape, generator=generator) * 0.3

    weights = {"W_enc": draw(d, f), "W_dec": draw(f, d), "b_dec": draw(d)}
    names = ARCHITECTURES[architecture] if beside is None else beside
    weights |= {name: draw(f).abs() * 0.1 for name in names}
    k = 5 if architecture == "topk" else None
    return SparseAutoencoder(architecture, weights, hook, k=k, **changes)


VARIANTS = [
    *((architecture, {}) for architecture in ARCHITECTURES),
    ("standard", {"apply_b_dec_to_input": False}),
    ("standard", {"normalize_activations": "layer_norm"}),
    ("topk", {"rescale_acts_by_decoder_norm": True}),
    ("standard", {"hook": "blocks.1.attn.hook_z"}),
    ("topk", {"hook": "blocks.1.attn.hook_q"}),
    *((architecture, {}) for architecture in TRANSCODERS),
    ("skip_transcoder", {"normalize_activations": "layer_norm"}),
    ("transcoder", {"hook": "blocks.0.attn.hook_z", "hook_out": "blocks.0.hook_attn_out"}),
]


def variant(architecture: str, changes):
    """A dictionary of one of the variants."""
    make = transcoder if architecture in TRANSCODERS else dictionary
    return make(architecture, **changes)


@pytest.mark.parametrize(("architecture", "changes"), VARIANTS)
def test_files_keep_the_dictionary_and_splicing_with_the_error_keeps_logits(
    architecture, changes, tmp_path
):
    wanted = variant(architecture, changes)
    write(wanted, tmp_path)
    found = read(tmp_path)
    stage, network = build()
    context = contexts(stage)
    x = torch.randn(6, 16)
    assert torch.equal(found.encode(x), wanted.encode(x))
    assert torch.equal(found.reconstruct(x), wanted.reconstruct(x))
    with torch.no_grad():
        before = network(context)
        with found.spliced(network):
            with_error = network(context)
        with found.spliced(network, error_term=False):
            without = network(context)
        with found.spliced(network, edit=lambda features: features * 0):
            edited = network(context)
        assert torch.equal(network(context), before)  # nothing is left behind
    torch.testing.assert_close(with_error, before, rtol=0, atol=1e-5)
    assert (without - before).abs().max() > 1e-2 and (edited - before).abs().max() > 1e-3


def test_the_layout_is_saelens_6s(tmp_path):
    """Names and values as sae-lens 6.54.12 wrote them for a topk dictionary of the same shape."""
    write(dictionary("topk"), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cfg.json", "sae_weights.safetensors"]
    assert json.loads((tmp_path / "cfg.json").read_text()) == {
        "d_in": 16,
        "d_sae": 40,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": "6.54.12",
            "sae_lens_training_version": "6.54.12",
            "hook_name": HOOK,
        },
        "architecture": "topk",
        "k": 5,
        "rescale_acts_by_decoder_norm": False,
    }


@pytest.mark.parametrize("error_term", [True, False])
def test_an_edit_in_place_counts_as_one_that_is_returned(error_term):
    stage, network = build()
    context, sae = contexts(stage), dictionary("standard")

    def in_place(features):
        features[..., :20] = 0

    def in_place_and_returned(features):
        in_place(features)
        return features

    def returned(features):
        return torch.cat([torch.zeros_like(features[..., :20]), features[..., 20:]], -1)

    with torch.no_grad():
        plain, found = network(context), []
        for edit in (returned, in_place_and_returned, in_place):
            with sae.spliced(network, error_term=error_term, edit=edit):
                found.append(network(context))
    assert all(torch.equal(one, found[0]) for one in found)
    assert (found[0] - plain).abs().max() > 1e-2


@pytest.mark.parametrize("hook", ["blocks.0.hook_resid_post", "blocks.1.attn.hook_z"])
@pytest.mark.parametrize("error_term", [True, False])
def test_rollouts_with_a_dictionary_keep_keys_and_values_and_play_alike(hook, error_term):
    """Action for action as with every context computed whole; what an edit says decides."""
    model = playing("dt.windows.context=12", "dt.model.n_ctx=35")
    sae = dictionary("topk", hook)
    starts, targets = [3, 4, 5, 4] * 10, np.repeat([0.1, 0.9], 20).astype(np.float32)

    def same(features):
        return features

    lengths = []
    for edit, kept in ((None, True), (Edit(same, Depends.window), False), (same, False)):
        with sae.spliced(model, error_term, edit):
            assert (model.by_token is model) == kept
            lengths.append(rollout(model, Corridor(starts), targets, seed=3).length)
    assert all((lengths[0] == other).all() for other in lengths)
    plain = rollout(model, Corridor(starts), targets, seed=3).length
    assert (lengths[0] == plain).all() == error_term


def test_an_activation_that_is_not_computed_is_not_spliced():
    stage, network = build()
    sae = dataclasses.replace(dictionary("standard"), hook_name="blocks.0.hook_mlp_in")
    with pytest.raises(UserError, match="use_hook_mlp_in is off"), sae.spliced(network):
        pass
    with (
        pytest.warns(UserWarning, match=r"never called: blocks\.0\.hook_resid_post"),
        dictionary("standard").spliced(network),
    ):
        pass  # the model does not run
    network.set_use_hook_mlp_in(True)
    with sae.spliced(network):
        network(contexts(stage))


def test_features_follow_their_definitions():
    x = torch.randn(7, 16)
    topk = dictionary("topk")
    assert ((topk.encode(x) > 0).sum(-1) <= 5).all()
    jump = dictionary("jumprelu")
    jump.weights["threshold"].fill_(0.5)
    on = jump.encode(x)
    assert (on[on > 0] > 0.5).all() and (on > 0).any()
    gated = dictionary("gated")
    gated.weights["b_gate"].fill_(-1e6)
    assert not gated.encode(x).any()


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match="not a readable SAELens folder"):
        read(tmp_path)
    write(dictionary("standard"), tmp_path)
    known = json.loads((tmp_path / "cfg.json").read_text())
    for changes, message in (
        ({"architecture": "temporal"}, "architecture 'temporal'; known here are standard"),
        ({"architecture": "transcoder", "d_out": 16}, "no hook_name_out"),
        ({"architecture": "batchtopk"}, "holds no topk_threshold of batchtopk"),
        ({"metadata": {"hook_head_index_out": 2}}, "gives head 2 alone"),
        ({"normalize_activations": "covariance_whitening"}, "is not known here"),
        ({"d_sae": 7}, r"but cfg.json asks for"),
        (
            {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3}},
            "activation_fn_str 'topk'",
        ),
        ({"activation_fn_str": "tanh-relu"}, "is of files before SAELens 6"),
        ({"activation_fn": "gelu"}, "is of files before SAELens 6"),
        ({"hook_head_index": 3}, "reads head 3 alone"),
        ({"scaling_factor": 2.0}, "scaling_factor is not known here"),
        ({"finetuning_scaling_factor": True}, "finetuning_scaling_factor is not known here"),
        ({"noise_scale": 1, "mse_loss": 2}, "mse_loss, noise_scale: not known here"),
    ):
        (tmp_path / "cfg.json").write_text(json.dumps({**known, **changes}))
        with pytest.raises(UserError, match=message):
            read(tmp_path)


def test_a_file_of_an_older_version_keeps_its_hook_and_its_numbers(tmp_path):
    write(dictionary("standard"), tmp_path)
    known = json.loads((tmp_path / "cfg.json").read_text())
    now = read(tmp_path)
    older = {k: v for k, v in known.items() if k != "metadata"}
    older |= {
        "hook_name": HOOK,
        "hook_layer": 1,
        "activation_fn_str": "relu",
        "activation_fn_kwargs": {},
    }
    older |= {"context_size": 128, "finetuning_scaling_factor": False, "hook_head_index": None}
    (tmp_path / "cfg.json").write_text(json.dumps(older))
    before = read(tmp_path)
    assert before.hook_name == HOOK == now.hook_name
    x = torch.randn(5, 16)
    assert torch.equal(before.encode(x), now.encode(x))
