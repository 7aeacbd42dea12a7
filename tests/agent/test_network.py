"""The network: its encoders, its files."""

import json

import numpy as np
import pytest
import torch

from dtx.agent.architecture import Encoder, Recurrence
from dtx.agent.network import MODEL, WEIGHTS, ActorCritic, AgentArchitecture, load, save
from dtx.env import encoding
from dtx.errors import UserError


def small(encoder: Encoder = Encoder.linear, memory: Recurrence = Recurrence.lstm) -> ActorCritic:
    return ActorCritic(
        AgentArchitecture(encoder=encoder, memory=memory, width=8, n_actions=7), seed=3
    )


@pytest.fixture
def observations() -> np.ndarray:
    rng = np.random.default_rng(0)
    some = np.stack([rng.integers(0, k, (4, 7, 7)) for k in (11, 6, 3)], axis=-1).astype(np.uint8)
    return some[[0, 1, 2, 1, 3]]


@pytest.mark.parametrize("encoder", list(Encoder))
def test_encoding_is_the_same_with_and_without_gradients(
    encoder: Encoder, observations: np.ndarray
) -> None:
    module, o = small(encoder).encoder, torch.from_numpy(observations)
    with torch.no_grad():
        without = module(o)
    torch.testing.assert_close(module(o).detach(), without, atol=1e-5, rtol=1e-5)


def test_the_linear_encoder_is_a_linear_layer_on_the_flat_one_hot(observations: np.ndarray) -> None:
    encoder = small().encoder
    flat = torch.from_numpy(encoding.flatten(encoding.one_hot(observations))).float()
    expected = torch.relu(flat @ encoder.weight + encoder.bias)
    found = encoder(torch.from_numpy(observations))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("encoder", list(Encoder))
@pytest.mark.parametrize("memory", list(Recurrence))
def test_a_saved_agent_comes_back_the_same(
    encoder: Encoder, memory: Recurrence, observations: np.ndarray, tmp_path
) -> None:
    agent = small(encoder, memory)
    save(agent, tmp_path)
    again = load(tmp_path)
    assert not again.training
    assert again.architecture == agent.architecture
    state = torch.randn(5, agent.initial_memory(5).shape[1])
    with torch.no_grad():
        for a, b in zip(
            agent.step(observations, state), again.step(observations, state), strict=True
        ):
            assert torch.equal(a, b)


def test_damaged_files_are_an_error_in_one_line(tmp_path) -> None:
    with pytest.raises(UserError, match="not a readable agent"):
        load(tmp_path)
    save(small(), tmp_path)
    whole = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a readable agent"):
        load(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(whole)
    model = json.loads((tmp_path / MODEL).read_text())
    (tmp_path / MODEL).write_text(json.dumps({**model, "width": 9}))
    with pytest.raises(UserError, match="not a readable agent"):
        load(tmp_path)


def test_initial_weights_follow_from_the_seed_and_leave_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    a, b = small(), small()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    other = ActorCritic(a.architecture, seed=4)
    assert not torch.equal(a.encoder.parameters().__next__(), next(other.encoder.parameters()))


def test_the_first_policy_is_near_uniform(observations: np.ndarray) -> None:
    agent = small()
    with torch.no_grad():
        logits = agent.step(observations, agent.initial_memory(5))[0]
    assert torch.softmax(logits, 1).max() < 0.2


@pytest.mark.parametrize("field", ["width", "n_actions"])
def test_a_description_of_any_size_is_not_built(tmp_path, field):
    architecture = AgentArchitecture(
        encoder=Encoder.linear, memory=Recurrence.lstm, width=8, n_actions=3
    )
    save(ActorCritic(architecture), tmp_path)
    path = tmp_path / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: 2_000_000_000}))
    with pytest.raises(UserError, match="not a readable agent"):
        load(tmp_path)
