"""Published agents of every supported form, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dtx.agent.imported import Imported
from dtx.config.compose import build_group
from dtx.dataset.rollouts import Rollouts, Share
from dtx.env.encoding import one_hot
from dtx.errors import UserError
from dtx.exchange.published.checkpoint import digest_of, read
from dtx.exchange.published.convert_agent import convert, is_agent
from dtx.running.runner import run
from tests.dt.test_parity import FOLDER
from tests.published import ENVIRONMENT, RAW, agent, agent_step, put_into_store, write

FORMS = [
    ("bow_endpool_res", "lstm"),
    ("bow_endpool_res", "gru"),
    ("bow_endpool", None),
    ("bow", "lstm"),
    ("original_endpool_res", "gru"),
    ("original", None),
]


def observations(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, [11, 6, 3], (n, 7, 7, 3)).astype(np.uint8)


@pytest.mark.parametrize(("arch", "memory"), FORMS)
def test_it_acts_as_published(arch, memory, tmp_path):
    tensors, config = agent(arch=arch, memory=memory)
    file = write(tmp_path / "a.pt", tensors, config, RAW)
    assert is_agent(read(file))
    ours = put_into_store(Imported(file=file, digest=digest_of(file)), tmp_path / "store")
    state = theirs = ours.initial_memory(4)
    for t in range(4):
        seen = observations(4, t)
        with torch.no_grad():
            logits, value, state = ours.step(seen, state)
            expected = agent_step(tensors, arch, torch.from_numpy(seen), theirs)
        theirs = expected[2]
        for found, wanted in zip((logits, value, state), expected, strict=True):
            assert torch.allclose(found, wanted, atol=1e-5)
    assert logits.std(0).max() > 1e-3


@pytest.mark.parametrize("encoded", [True, False])
def test_a_fully_connected_agent(encoded, tmp_path):
    torch.manual_seed(0)
    size = 980 if encoded else 147
    tensors = {}
    layers = {}
    for head, outputs in (("actor", 7), ("critic", 1)):
        layers[head] = [
            torch.nn.Linear(size, 9),
            torch.nn.Linear(9, 9),
            torch.nn.Linear(9, outputs),
        ]
        for i, layer in zip((1, 3, 5), layers[head], strict=True):
            tensors |= {f"{head}.{i}.{k}": v.detach() for k, v in layer.named_parameters()}
    file = write(tmp_path / "a.pt", tensors, {"hidden_dim": 9}, ENVIRONMENT if encoded else RAW)
    ours, seen = convert(read(file))
    assert seen.one_hot == encoded
    x = observations(5)
    given = torch.from_numpy(one_hot(x) if encoded else x).flatten(1).float()
    logits, value, memory = ours.step(x, ours.initial_memory(5))
    for head, found in (("actor", logits), ("critic", value[:, None])):
        first, second, last = layers[head]
        assert torch.allclose(found, last(torch.tanh(second(torch.tanh(first(given))))), atol=1e-5)
    assert memory.shape == (5, 0)


REFUSED = {
    "instructions": ({}, {"use_instr": True}, {}, "model_config.use_instr = 'True'"),
    "pixels": ({}, {"arch": "pixels_endpool"}, {}, "model_config.arch = 'pixels_endpool'"),
    "extra heads": (
        {"model.extra_heads.a.weight": torch.ones(1)},
        {},
        {},
        "extra_heads.a.weight [1] has no place",
    ),
    "gates": (
        {"model.memory_rnn.weight_hh": torch.ones(20, 8)},
        {},
        {},
        "neither an LSTM's 4 gates nor a GRU's 3",
    ),
    "variance": ({"model.image_conv.2.running_var": -torch.ones(6)}, {}, {}, "negative variance"),
    "memory": ({}, {"use_memory": False}, {}, "model_config.use_memory = 'False'"),
    "field": ({}, {"dropout": 0.1}, {}, "model_config.dropout is not a field"),
    "one-hot": ({}, {}, {"one_hot_obs": True}, "one_hot_obs = True, but the agent reads indices"),
    "rows": (
        {"model.image_conv.0.embedding.weight": torch.ones(9, 6)},
        {},
        {},
        "9 rows do not hold",
    ),
    "transformer": ({"actor.transformer.x": torch.ones(1)}, {}, {}, "agents of transformers"),
}


@pytest.mark.parametrize(
    ("tensors", "config", "environment", "words"), REFUSED.values(), ids=REFUSED
)
def test_what_cannot_be_mapped_is_refused_by_name(tensors, config, environment, words, tmp_path):
    whole, model = agent()
    file = write(
        tmp_path / "a.pt", {**whole, **tensors}, {**model, **config}, {**RAW, **environment}
    )
    with pytest.raises(UserError) as error:
        convert(read(file))
    assert words in str(error.value)


def test_it_gives_demonstrations(tmp_path, store, experiment_of):
    file = write(tmp_path / "a.pt", *agent(), RAW)
    rollouts = Rollouts(
        env=build_group("env/memory", ["env.max_steps=8"]),
        agent=Imported(file=file, digest=digest_of(file)),
        episodes=20,
        mixture=(Share(temperature=1, share=1),),
        environments=8,
        validation=0,
        seed=0,
        facts=False,
    )
    run(experiment_of(rollouts))
    assert len(rollouts.load().start) == 20
    assert "memory of 10 numbers, 7 actions" in rollouts.agent.summary()


@pytest.mark.skipif(not FOLDER.is_dir(), reason="../shared/parity is not here")
def test_the_published_agent(tmp_path):
    file = FOLDER / "Test-PPO-LSTM_06.pt"
    ours = put_into_store(Imported(file=file, digest=digest_of(file)), tmp_path)
    episodes = np.load(FOLDER / "lstm06_episodes.npz")
    mask = torch.from_numpy(episodes["evalbn_mask"])
    memory = ours.initial_memory(mask.shape[1])
    for t, seen in enumerate(episodes["evalbn_obs"]):
        memory = memory * mask[t][:, None]
        expected = torch.from_numpy(episodes["evalbn_memory_in"][t]) * mask[t][:, None]
        assert (memory - expected).abs().max() < 1e-5, t
        with torch.no_grad():
            logits, value, memory = ours.step(seen, memory)
        pairs = {"logits": F.log_softmax(logits, 1), "value": value, "memory_out": memory}
        for name, found in pairs.items():
            assert np.abs(found.numpy() - episodes[f"evalbn_{name}"][t]).max() < 1e-5, (name, t)
