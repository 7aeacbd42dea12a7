"""TransformerLens's own tools on our model; also run under its oldest version by test_lens_oldest.py."""

import pytest
import torch

pytest.importorskip("transformer_lens", reason="an extra")
from transformer_lens import FactoredMatrix, SVDInterpreter, patching

from dtx.dt.forward import run_with_cache
from dtx.errors import UserError
from tests.dt.test_model import VARIANTS, build, contexts


@pytest.fixture(autouse=True)
def _no_progress_bars(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")


@pytest.mark.parametrize("variant", VARIANTS)
def test_attributions_of_all_parts_add_up_to_the_logits(variant):
    stage, network = build(*VARIANTS[variant])
    context = contexts(stage)
    logits, cache = run_with_cache(network, context)
    cache = cache.transformer_lens()
    places = range(*network.cfg.layout.states.indices(context.shape[1]))
    for expand in (False, True):
        parts = cache.get_full_resid_decomposition(expand_neurons=expand)
        for action in (1, torch.full((12, 1), 1)):
            found = (
                cache.logit_attrs(parts, action).sum(0)[:, list(places)] + network.logit_bias()[1]
            )
            torch.testing.assert_close(found, logits[..., 1], rtol=1e-4, atol=1e-4)
    between = cache.logit_attrs(cache.decompose_resid(mode="all"), "left", "forward").sum(0)
    bias = network.logit_bias()
    wanted = logits[..., 0] - logits[..., 2] - (bias[0] - bias[2])
    torch.testing.assert_close(between[:, list(places)], wanted, rtol=1e-4, atol=1e-4)
    last = network.unembed(cache.accumulated_resid(apply_ln=True)[-1])[:, list(places)]
    torch.testing.assert_close(last, logits, rtol=1e-4, atol=1e-4)


def test_accumulated_bias_is_what_the_blocks_add_to_nothing():
    _, network = build()
    attention, mlp = ([getattr(b, n) for b in network.blocks] for n in ("attn", "mlp"))
    assert torch.equal(network.accumulated_bias(0), torch.zeros(16))
    torch.testing.assert_close(
        network.accumulated_bias(1, mlp_input=True),
        attention[0].b_O + mlp[0].b_out + attention[1].b_O,
    )
    torch.testing.assert_close(
        network.accumulated_bias(2, include_mlp_biases=False), attention[0].b_O + attention[1].b_O
    )


PATCHES = {
    "resid_pre": ("blocks.{}.hook_resid_pre", lambda x, n, h: (slice(None), n)),
    "mlp_out": ("blocks.{}.hook_mlp_out", lambda x, n, h: (slice(None), n)),
    "attn_head_out_by_pos": ("blocks.{}.attn.hook_z", lambda x, n, h: (slice(None), n, h)),
    "attn_head_k_by_pos": ("blocks.{}.attn.hook_k", lambda x, n, h: (slice(None), n, h)),
    "attn_head_v_all_pos": ("blocks.{}.attn.hook_v", lambda x, n, h: (slice(None), slice(None), h)),
    "attn_head_pattern_all_pos": ("blocks.{}.attn.hook_pattern", lambda x, n, h: (slice(None), h)),
}


@pytest.mark.parametrize("kind", PATCHES)
def test_transformer_lens_patches_what_a_hook_of_ones_own_patches(kind):
    stage, network = build()
    clean = contexts(stage)
    corrupt = clean.clone()
    corrupt["action"][:, 0] = (corrupt["action"][:, 0] + 1) % 7
    _, cache = run_with_cache(network, clean)

    def metric(logits):
        return (logits[:, -1, 0] - logits[:, -1, 1]).mean()

    with torch.no_grad():
        found = getattr(patching, f"get_act_patch_{kind}")(network, corrupt, cache, metric)
        name, place = PATCHES[kind]
        layer, token, head = 1, 4, 1

        def edit(x, hook):
            index = place(x, token, head)
            x = x.clone()
            x[index] = cache[hook.name][index]
            return x

        hooks = [(name.format(layer), edit)]
        wanted = metric(network.run_with_hooks(corrupt, fwd_hooks=hooks))
        before = metric(network(corrupt))
    by_token = kind in ("resid_pre", "mlp_out")
    index = (
        (layer, token) if by_token else (layer, token, head) if "by_pos" in kind else (layer, head)
    )
    torch.testing.assert_close(found[index], wanted, rtol=0, atol=1e-5)
    assert (found - before).abs().max() > 1e-3


def test_sweeps_over_all_kinds_of_heads_inputs_run():
    stage, network = build()
    clean = contexts(stage, 4)
    _, cache = run_with_cache(network, clean)
    every = patching.get_act_patch_attn_head_all_pos_every

    def metric(logits):
        return logits[:, -1, 0].mean()

    with torch.no_grad():
        found = every(network, clean, cache, metric)  # a run patched with itself stays what it is
        wanted = metric(network(clean))
    torch.testing.assert_close(found, wanted.expand(5, 2, 2), rtol=0, atol=1e-5)


def test_factored_matrices_and_singular_vectors():
    _, network = build()
    circuit = FactoredMatrix(network.W_V, network.W_O)
    product = network.W_V @ network.W_O
    torch.testing.assert_close(circuit.norm(), product.norm(dim=(-2, -1)), rtol=1e-4, atol=1e-5)
    vectors = SVDInterpreter(network).get_singular_vectors("OV", 0, num_vectors=3, head_index=1)
    right = torch.linalg.svd(product[0, 1])[2][:3]
    wanted = (network.W_U.T @ right.T).abs()
    assert vectors.shape == (7, 1, 3)
    torch.testing.assert_close(vectors[:, 0].abs(), wanted, rtol=1e-3, atol=1e-4)


def test_an_action_that_the_model_does_not_know_is_named():
    _, network = build()
    assert network.to_single_token("toggle") == 5
    with pytest.raises(UserError, match=r"no action 'jump'; the model's are left, right"):
        network.tokens_to_residual_directions("jump")
