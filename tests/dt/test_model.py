import copy

import numpy as np
import pytest
import torch
from transformer_lens import ActivationCache

from dtx.dt import model as models
from dtx.dt.context import Context
from dtx.dt.decision_transformer import DecisionTransformer
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.windows import Sampler
from dtx.errors import UserError
from tests.dt.toy import episodes, tiny

VARIANTS = {
    "plain": (),
    "gated relu": ("dt.model.gated_mlp=true", "dt.model.activation=relu"),
    "no layer norm": ("dt.model.layer_norm=false",),
    "linear time, no positions": (
        "dt.model.time_embedding=linear",
        "dt.model.positional_embedding=false",
    ),
    "clone": ("dt.reward_to_go=false",),
    "left": ("dt.windows.padding=left", "dt.initialisation.centre_state=false"),
}


def build(*overrides: str) -> tuple[DecisionTransformer, DecisionTransformerModel]:
    stage = tiny(*overrides)
    network = DecisionTransformerModel(stage.model_config())
    models.initialise(network, None, 0.3, seed=1)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return stage, network.eval()


def contexts(stage: DecisionTransformer, count: int = 12) -> Context:
    sampler = Sampler(episodes(), stage.model_config(), stage.windows, split=0)
    return sampler.context(sampler.draw(np.random.default_rng(0), count))[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_hook_names_and_shapes_are_transformer_lens_ones(variant):
    stage, network = build(*VARIANTS[variant])
    context = contexts(stage)
    _, cache = network.run_with_cache(context)
    b, n = context.shape
    shapes = {
        "hook_embed": (b, n, 16),
        "blocks.0.hook_resid_pre": (b, n, 16),
        "blocks.1.hook_resid_mid": (b, n, 16),
        "blocks.1.hook_resid_post": (b, n, 16),
        "blocks.0.hook_attn_out": (b, n, 16),
        "blocks.0.hook_mlp_out": (b, n, 16),
        "blocks.0.attn.hook_q": (b, n, 2, 8),
        "blocks.0.attn.hook_k": (b, n, 2, 8),
        "blocks.0.attn.hook_v": (b, n, 2, 8),
        "blocks.0.attn.hook_z": (b, n, 2, 8),
        "blocks.0.attn.hook_attn_scores": (b, 2, n, n),
        "blocks.0.attn.hook_pattern": (b, 2, n, n),
        "blocks.1.mlp.hook_pre": (b, n, 24),
        "blocks.1.mlp.hook_post": (b, n, 24),
    }
    if stage.model.layer_norm:
        shapes["blocks.0.ln1.hook_scale"] = (b, n, 1)
        shapes["ln_final.hook_normalized"] = (b, n, 16)
    if stage.model.gated_mlp:
        shapes["blocks.0.mlp.hook_pre_linear"] = (b, n, 24)
    if stage.model.positional_embedding:
        shapes["hook_pos_embed"] = (b, n, 16)
    assert {k: tuple(cache[k].shape) for k in shapes} == shapes
    assert n == 4 * (3 if stage.reward_to_go else 2) - 1


@pytest.mark.parametrize("variant", VARIANTS)
def test_fused_attention_equals_materialised(variant):
    stage, network = build(*VARIANTS[variant])
    context = contexts(stage)
    with torch.no_grad():
        fused = network(context)
        hooked, cache = network.run_with_cache(context)
        one = network.run_with_hooks(
            context, fwd_hooks=[("blocks.0.attn.hook_pattern", lambda x, hook: x)]
        )
    # float32: the sums go in another order, and without LayerNorm values are larger.
    torch.testing.assert_close(fused, hooked, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fused, one, rtol=1e-4, atol=1e-4)
    pattern = cache["blocks.1.attn.hook_pattern"]
    torch.testing.assert_close(pattern.sum(-1), torch.ones_like(pattern[..., 0]))
    assert (pattern.triu(1) == 0).all()


def test_later_tokens_do_not_change_earlier_logits():
    stage, network = build()
    context = contexts(stage)
    changed = context.clone()
    changed["observation"][:, 2] = (changed["observation"][:, 2] + 1) % 5
    before, after = network(context), network(changed)
    torch.testing.assert_close(before[:, :2], after[:, :2], rtol=0, atol=1e-6)
    assert (before[:, 2] - after[:, 2]).abs().max() > 1e-3
    acted = context.clone()
    acted["action"][:, 1] = (acted["action"][:, 1] + 1) % 7
    after = network(acted)
    torch.testing.assert_close(before[:, :2], after[:, :2], rtol=0, atol=1e-6)
    assert (before[:, 2] - after[:, 2]).abs().max() > 1e-3


def test_a_table_with_indices_equals_one_hots():
    stage, network = build()
    context = contexts(stage)
    one_hot = context["table"][context["observation"]].requires_grad_()
    direct = {k: v for k, v in context.items() if k not in ("observation", "table")}
    logits = network(Context.of(one_hot=one_hot, **direct))
    torch.testing.assert_close(network(context), logits, rtol=0, atol=2e-6)
    logits.sum().backward()
    assert one_hot.grad is not None and one_hot.grad.abs().sum() > 0


def test_a_clone_does_not_see_reward_to_go():
    stage, network = build("dt.reward_to_go=false")
    context = contexts(stage)
    other = context.clone()
    other["reward_to_go"] += 5
    assert torch.equal(network(context), network(other))
    assert not any("W_R" in name for name, _ in network.named_parameters())


def test_reward_to_go_changes_logits():
    stage, network = build()
    context = contexts(stage)
    other = context.clone()
    other["reward_to_go"] += 5
    assert (network(context) - network(other)).abs().max() > 1e-2


def test_transformer_lens_cache_decomposes_the_residual_stream():
    stage, network = build()
    context = contexts(stage)
    _, values = network.run_with_cache(context)
    cache = ActivationCache(values, network)
    parts = cache.decompose_resid(layer=-1, mode="all")
    last = values["blocks.1.hook_resid_post"]
    torch.testing.assert_close(parts.sum(0), last, rtol=0, atol=1e-5)
    heads = cache.stack_head_results(layer=2)
    biases = sum(block.attn.b_O for block in network.blocks)
    attention = sum(values[f"blocks.{i}.hook_attn_out"] for i in range(2))
    torch.testing.assert_close(heads.sum(0) + biases, attention, rtol=0, atol=1e-5)
    assert network.W_Q.shape == (2, 2, 16, 8) and network.W_U.shape == (16, 7)


def test_split_inputs_and_head_results_do_not_change_logits():
    stage, network = build()
    context = contexts(stage)
    before = network(context)
    cfg = network.cfg
    cfg.use_attn_result = cfg.use_split_qkv_input = cfg.use_hook_mlp_in = True
    after, cache = network.run_with_cache(context)
    torch.testing.assert_close(before, after, rtol=0, atol=5e-6)
    assert cache["blocks.0.hook_q_input"].shape == (*context.shape, 2, 16)
    torch.testing.assert_close(
        cache["blocks.0.attn.hook_result"].sum(2) + network.blocks[0].attn.b_O,
        cache["blocks.0.hook_attn_out"],
        rtol=0,
        atol=1e-5,
    )


def test_context_is_sliced_by_window_and_tells_its_shape():
    stage, _ = build()
    context = contexts(stage)
    assert context.shape == (12, 11) and context.ndim == context.dim() == 2
    part = context[3:5]
    assert part.shape == (2, 11) and part["table"] is context["table"]
    assert torch.equal(part["action"], context["action"][3:5])
    assert context[-1].shape == (1, 11)
    assert context.repeat(2, 1).shape == (24, 11)


@pytest.mark.parametrize("variant", VARIANTS)
def test_saved_models_compute_the_same(variant, tmp_path):
    stage, network = build(*VARIANTS[variant])
    models.save(network, tmp_path)
    context = contexts(stage)
    assert torch.equal(models.load(tmp_path)(context), network(context))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "weights.safetensors"]


def test_a_damaged_file_is_a_one_line_error(tmp_path):
    _, network = build()
    models.save(network, tmp_path)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"weights.safetensors: not a readable model") as error:
        models.load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_loaded_model_stores_its_weights_flat_and_nothing_is_stale(variant, tmp_path):
    """Same bits as without it; weights that are written, loaded or copied are used at once."""
    stage, network = build(*VARIANTS[variant])
    context = contexts(stage)
    models.save(network, tmp_path)
    flat = models.load(tmp_path)
    weight = flat.blocks[0].attn.W_K
    project = weight.transpose(1, 2)
    assert (
        project.is_contiguous() and not network.blocks[0].attn.W_K.transpose(1, 2).is_contiguous()
    )
    with torch.no_grad():
        assert torch.equal(flat(context), network(context))
        for each in (flat, network):
            each.blocks[0].attn.W_K.data.mul_(1.5)  # passes by the counter of versions
            each.blocks[1].attn.W_Q[0].add_(0.3)
        assert torch.equal(flat(context), network(context))
        for twin in (copy.deepcopy(flat), copy.deepcopy(flat).double().float()):
            assert twin.blocks[0].attn.W_K.transpose(1, 2).is_contiguous()
            assert torch.equal(twin(context), network(context))
        other = build(*VARIANTS[variant])[1]
        flat.load_state_dict(other.state_dict())
        assert weight is flat.blocks[0].attn.W_K and weight.transpose(1, 2).is_contiguous()
        assert torch.equal(flat(context), other(context))
    models.save(flat, tmp_path)
    assert (tmp_path / models.WEIGHTS).read_bytes()
    assert torch.equal(models.load(tmp_path).W_K, other.W_K)


def test_a_flat_model_trains_and_is_hooked_as_any(tmp_path):
    stage, network = build()
    context = contexts(stage)
    models.save(network, tmp_path)
    flat = models.load(tmp_path)
    for each in (flat, network):
        optimiser = torch.optim.Adam(each.parameters(), 0.01)
        for _ in range(3):
            optimiser.zero_grad()
            each(context).pow(2).mean().backward()
            optimiser.step()
    assert torch.allclose(flat.W_Q, network.W_Q, atol=1e-6)
    assert flat.blocks[0].attn.W_Q.transpose(1, 2).is_contiguous()

    def edit(value, hook):
        return value * 2

    hooks = [("blocks.0.attn.hook_q", edit), ("blocks.1.attn.hook_pattern", edit)]
    with torch.no_grad():
        both = [each.run_with_hooks(context, fwd_hooks=hooks) for each in (flat, network)]
    assert torch.allclose(*both, atol=1e-5)
