import pytest
import torch

from dtx.dt.forward import Changed, run_from
from tests.dt.test_model import VARIANTS, build, contexts


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_going_on_from_a_layer_gives_the_models_logits(variant, layer):
    stage, model = build(*VARIANTS[variant])
    context = contexts(stage)
    with torch.no_grad():
        wanted = model(context)[:, -1]
        resid_bnd = model.residual(context, layer)
        assert torch.equal(model.residual(context), model.residual(context, 2))
        for last_token_only in (True, False):
            logits = run_from(model, layer, resid_bnd, last_token_only=last_token_only)
            assert torch.allclose(logits, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["attn.hook_z", "hook_resid_mid", "mlp.hook_post"])
@pytest.mark.parametrize("layer", [0, 1])
def test_edits_are_made_on_the_way_and_in_the_last_block_too(name, layer):
    stage, model = build()
    context = contexts(stage)
    hooks = [(f"blocks.{layer}.{name}", lambda value, hook: value * 1.5)]
    with torch.no_grad():
        with model.hooks(fwd_hooks=hooks):
            wanted = model(context)[:, -1]
        plain = model(context)[:, -1]
        logits = run_from(model, layer, model.residual(context, layer), hooks)
        with model.hooks(fwd_hooks=hooks):  # hooks of the model's own stay in force
            own = run_from(model, layer, model.residual(context, layer))
    assert torch.allclose(logits, wanted, rtol=1e-4, atol=1e-4) and torch.allclose(
        own, wanted, atol=1e-5
    )
    assert (wanted - plain).abs().max() > 1e-3
    assert not model.has_hooks


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_change_from_a_token_on_gives_what_the_whole_pass_gives(layer):
    stage, model = build()
    context = contexts(stage, 6)
    needed = Changed.needed(model.cfg.n_layers)
    with torch.no_grad():
        _, cache = model.run_with_cache(context, names_filter=lambda name: name in needed)
        resid_bnd = model.residual(context, layer)
        row_b = torch.tensor([4, 1, 1])
        for begin in (0, 3, context.shape[1] - 1):
            edited = resid_bnd[row_b].clone()
            edited[:, begin] += 1.0
            new = edited[:, begin : begin + 1]
            logits = Changed(model, cache).logits(layer, row_b, begin, new)
            if layer == 2 and begin < context.shape[1] - 1:
                continue  # only the last token is read there
            assert torch.allclose(logits, run_from(model, layer, edited), rtol=1e-4, atol=1e-4)
