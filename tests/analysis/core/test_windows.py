import numpy as np
import pytest
import torch

from dtx.analysis.core.windows import (
    beginnings,
    demonstrated,
    distinct_inputs,
    join,
    real_tokens,
    sampler,
    sampling,
    tokens_of,
)
from dtx.dt.model import DecisionTransformerModel, ModelConfig, initialise
from dtx.dt.rollout import decision_contexts
from dtx.dt.spec import Balance, Padding
from dtx.errors import UserError
from tests.dt.toy import episodes


def model(**changes) -> DecisionTransformerModel:
    """A random model of one or two layers that reads Memory."""
    values = {
        "n_layers": 2, "n_heads": 2, "d_model": 16, "d_head": 8, "d_mlp": 16, "act_fn": "gelu",
        "gated_mlp": False, "normalization_type": "LN", "n_ctx": 26, "n_steps": 9,
        "n_timesteps": 50, "time_embedding": "learned", "positional_embedding": True,
        "state_bias": False, "reward_to_go": True, "left_padding": False,
    }  # fmt: skip
    made = DecisionTransformerModel(ModelConfig(**{**values, **changes}))
    initialise(made, None, 0.15, 0)
    return made.eval()


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("clone", [False, True])
def test_tokens_are_named(env, left, clone):
    network = model(left_padding=left, reward_to_go=not clone)
    context = decision_contexts(network, env.decision, [0.9])[0]
    tokens = tokens_of(context, network.cfg)
    kinds = "SA" if clone else "RSA"
    want = [f"{k}{step}" for step in range(1, 6) for k in kinds][:-1]
    pads = len(kinds) * 4 if left else 0
    assert tokens.names == ("pad",) * pads + tuple(want)
    assert tokens.real.sum() == len(want) and len(tokens.names) == context.shape[1]
    assert [tokens.names[i] for i in np.flatnonzero(tokens.of("S"))] == [
        f"S{i}" for i in range(1, 6)
    ]


@pytest.mark.parametrize("left", [False, True])
def test_a_joined_batch_gives_each_batchs_logits(env, left):
    network = model(left_padding=left)
    contexts = decision_contexts(network, env.decision, [0.0, 0.9])
    contexts[1] = contexts[1][torch.tensor([2, 0])]  # other windows, the same table
    joined = join(contexts)
    with torch.no_grad():
        want = torch.cat([network(c) for c in contexts])
        assert torch.allclose(network(joined), want, atol=1e-6)
    assert len(joined) == 6


def test_equal_windows_count_once(env):
    network = model()
    context = join(decision_contexts(network, env.decision, [0.0, 0.9]))
    assert distinct_inputs(context) == 8
    assert distinct_inputs(context.repeat(3)) == 8
    clone = join(decision_contexts(model(reward_to_go=False), env.decision, [0.0, 0.9]))
    assert distinct_inputs(clone) == 4
    last = context.clone()
    last["action"][:, -1] = torch.arange(8) % 3  # no token
    assert distinct_inputs(last) == 8


@pytest.mark.parametrize("left", [False, True])
def test_windows_are_drawn_as_the_model_reads_them(left):
    network, recorded = model(left_padding=left), episodes(n=40, horizon=20)
    draws = sampler(recorded, network.cfg)
    assert draws.windows == sampling(network.cfg)
    assert (draws.windows.padding is Padding.left) == left
    trained = sampling(network.cfg, first_share=1.0, balance=Balance.success)
    assert sampler(recorded, network.cfg, trained).windows is trained
    context, frame = demonstrated(recorded, network.cfg, 5, seed=0)
    assert 0 < len(context) == len(frame) <= 5
    assert (real_tokens(context, network.cfg)[:, -1]).all()
    begun, chosen = beginnings(recorded, network.cfg, 3, 4, seed=0)
    assert len(begun) == len(chosen) == 4 and (recorded.length[chosen] >= 3).all()
    assert (recorded.split[chosen] == 0).all()
    assert real_tokens(begun, network.cfg).sum(1).tolist() == [network.cfg.layout.tokens(3)] * 4
    with pytest.raises(UserError, match="no training episode lasts 21 steps"):
        beginnings(recorded, network.cfg, 21, 4, seed=0)
