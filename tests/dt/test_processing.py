"""Rewritten weights compute the same, for every kind of model; the older tool's way does not."""

import numpy as np
import pytest
import torch

from dtx.dt.layers import LayerNorm
from dtx.dt.processing import EXACT, BiasedGatedMLP, Rewriting, blocks_of, copy_of, processed
from dtx.running.runner import run
from tests.dt.test_model import VARIANTS, build, contexts
from tests.dt.test_parity import FOLDER, network, windows  # noqa: F401  # fixtures
from tests.dt.toy import tiny

published = pytest.mark.skipif(not FOLDER.is_dir(), reason="../shared/parity is not here")


def scramble(model) -> None:
    """LayerNorms and biases as training might leave them; some scales are 0."""
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if ".b_" in name:
            with torch.no_grad():
                parameter.normal_(0.0, 0.3, generator=generator)
    for norm in (m for m in model.modules() if isinstance(m, LayerNorm)):
        with torch.no_grad():
            norm.w.normal_(1.0, 0.5, generator=generator)
            norm.b.normal_(0.0, 0.5, generator=generator)
            norm.w[:2] = 0


def difference(one, two, context) -> float:
    with torch.no_grad():
        return (one(context) - two(context)).abs().max().item()


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_logit_changes(variant):
    stage, model = build(*VARIANTS[variant])
    scramble(model)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    context = contexts(stage)
    folded = processed(model)
    with torch.no_grad():
        size = max(1.0, model(context).abs().max().item())  # without LayerNorm logits are large
    assert difference(model, folded, context) < 1e-5 * size
    exact = processed(model, dtype=torch.float64)
    double = context.to(torch.float64)
    assert difference(copy_of(model, torch.float64), exact, double) < 1e-12
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), f"the model itself changed: {key}"
    for norm in (m for m in folded.modules() if isinstance(m, LayerNorm)):
        assert (norm.w == 1).all() and (norm.b == 0).all()
    assert (folded.b_V == 0).all()
    if stage.model.layer_norm:
        for written in (folded.W_O, folded.W_out, folded.embed.W_S, folded.embed.W_time):
            assert written.mean(-1).abs().max() < 1e-7
        for read in (folded.W_Q, folded.W_V, folded.W_in):
            assert read.mean(-2).abs().max() < 1e-7


@pytest.mark.parametrize("step", EXACT)
@pytest.mark.parametrize("variant", ["plain", "gated relu"])
def test_each_step_alone_changes_no_logit_but_some_weight(variant, step):
    stage, model = build(*VARIANTS[variant])
    scramble(model)
    steps = (Rewriting.fold_layer_norm, step) if step is Rewriting.centre_reading else (step,)
    before = copy_of(processed(model, steps[:-1]), torch.float64)
    after = processed(before, steps[-1:])
    context = contexts(stage).to(torch.float64)
    assert difference(before, after, context) < 1e-12
    old = before.state_dict()
    assert any(not torch.equal(v, old[k]) for k, v in after.state_dict().items() if k in old)


def test_centring_the_unembedding_shifts_all_logits_together():
    stage, model = build()
    twin = processed(model, (Rewriting.centre_unembedding,))
    context = contexts(stage)
    with torch.no_grad():
        shift = model(context) - twin(context)
    assert shift.abs().max() > 0.01
    assert (shift - shift.mean(-1, keepdim=True)).abs().max() < 1e-5


def test_reading_is_not_centred_before_folding():
    _, model = build()
    with pytest.raises(ValueError, match="fold the LayerNorms first"):
        processed(model, (Rewriting.centre_reading,))


def test_a_folded_gated_model_keeps_hooks_stacks_and_can_be_processed_again():
    stage, model = build(*VARIANTS["gated relu"])
    scramble(model)
    once = processed(model)
    assert all(isinstance(block.mlp, BiasedGatedMLP) for block in blocks_of(once))
    _, cache = once.run_with_cache(contexts(stage))
    assert "blocks.1.mlp.hook_pre_linear" in cache and "blocks.0.mlp.hook_post" in cache
    assert once.W_gate.shape == model.W_gate.shape
    twice = processed(once)
    assert difference(once, twice, contexts(stage)) < 1e-6


def test_a_fold_that_skips_the_gate_is_wrong():
    stage, model = build(*VARIANTS["gated relu"])
    scramble(model)
    right = processed(model, (Rewriting.fold_layer_norm,))
    for mine, theirs in zip(blocks_of(right), blocks_of(model), strict=True):
        with torch.no_grad():
            mine.mlp.W_gate.copy_(theirs.mlp.W_gate)
    assert difference(model, right, contexts(stage)) > 0.01


def test_a_trained_model_stays_as_it_is(store, experiment_of):
    stage = tiny("dt.steps=40", "dt.optimiser.warm_up=2")
    run(experiment_of(stage))
    model = stage.load()
    assert any(
        (m.w != 1).any() for m in model.modules() if isinstance(m, LayerNorm)
    )  # else nothing is folded
    assert difference(model, processed(model), contexts(stage)) < 1e-5


@published
def test_the_published_gated_model_stays_as_it_is(network, windows):  # noqa: F811
    from tests.dt.test_parity import context_of

    context = context_of(windows)
    with torch.no_grad():
        logits = processed(network)(context).numpy()
    assert np.abs(logits - windows["action_logits"]).max() < 1e-5
    older = np.abs(windows["action_logits_app_folded"] - windows["action_logits"]).max()
    assert older > 0.1  # what the older tool analyses is another network
