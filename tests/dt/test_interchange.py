import functools

import numpy as np
import pandas as pd
import pytest
import torch

from dtx.config.build import ConfigError
from dtx.config.compose import build_group
from dtx.dt.circuit import Circuit
from dtx.dt.interchange import Interchange, training
from dtx.dt.interchange.measure import _pair, inputs_that_carry
from dtx.dt.interchange.patch import last_token, run_interchanged, run_plain
from dtx.dt.interchange.routes import TURN, WAITS, RouteSampler, routes, turn
from dtx.dt.model import DecisionTransformerModel, initialise
from dtx.dt.rollout import greedy_by_layout
from dtx.env.encoding import flatten, one_hot
from dtx.env.memory import LEFT, RIGHT
from dtx.report import read_curves, read_metrics
from dtx.running.runner import run
from tests.dt.patching import TARGETS, difference, expected, pairs, restored, sites
from tests.dt.test_decision_transformer import Killed, files

TINY = (
    "dt.model.d_model=16",
    "dt.model.d_mlp=16",
    "dt.model.n_ctx=23",
    "dt.context=8",
    "dt.waits=2",
    "dt.steps=6",
    "dt.batch_size=16",
    "dt.warm_up=2",
    "dt.pairs=24",
    "dt.log_every=2",
    "dt.checkpoint_every=2",
)


def tiny(*overrides: str) -> Interchange:
    return build_group("dt/interchange", [*TINY, *overrides])


@functools.cache
def untrained() -> tuple[Interchange, DecisionTransformerModel]:
    stage = tiny()
    model = DecisionTransformerModel(stage.model_config())
    initialise(model, None, 0.5, 0)
    return stage, model.eval()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole")
    tiny().run(out)
    return files(out)


def test_routes_are_all_there_once_and_end_with_a_turn():
    every = routes(4, 3, 9)
    assert len(every.place) == 1 + 3 * 4 + 6 * 16 + 10 * 64
    rows = np.concatenate([every.place, every.action], 1)
    assert len(np.unique(rows, axis=0)) == len(rows)
    assert every.place[0].tolist() == [0, 1, 2, 3, 4, 5, -1, -1, -1]
    at = np.arange(len(rows)), every.decision
    assert (every.action[at] == TURN).all() and (every.place[at] == 4).all()
    assert (every.place[:, 1] > 0).all()  # the instruction is in view once


def test_windows_are_what_the_environment_shows_and_do_what_is_asked():
    stage = build_group("dt/interchange")
    batch = RouteSampler(stage, held_out=True).batch(np.random.default_rng(0), 24)
    table, seen = batch.context["table"].numpy(), batch.context["observation"].numpy()
    actions = batch.context["action"].numpy()
    waited = 0
    for i in range(24):
        layout = 2 * int(batch.instruction[i]) + int(batch.instruction[i] ^ batch.side[i])
        world = stage.env.decision.vector([layout], 0)
        observation = world.reset()
        for step in range(int(batch.real[i].sum())):
            encoded = flatten(one_hot(observation))[0]
            np.testing.assert_array_equal(table[seen[i, step]], encoded)
            assert int(batch.target[i, step]) == actions[i, step] or actions[i, step] in WAITS
            waited += actions[i, step] in WAITS
            result = world.step(actions[i, step : step + 1])
            observation = result.observations
        assert result.terminated[0] and (result.reward[0] > 0) == bool(batch.high[i])
        world.close()
    assert waited >= 24  # each held-out route has waits
    high = batch.context["reward_to_go"][:, 0] >= 0.6
    assert torch.equal(high, batch.high == 1)


def test_the_turn_is_the_parity_of_three_variables_as_the_environment_has_it():
    layout = torch.arange(4)
    right, wrong = build_group("env/memory").decision.turns(layout.numpy())
    instruction, side = layout // 2, (layout // 2) ^ (layout % 2)
    for high, wanted in ((1, right), (0, wrong)):
        found = turn(instruction, side, torch.full((4,), high))
        assert found.tolist() == wanted.tolist()


def test_held_out_routes_are_not_trained_on_and_batches_follow_from_their_numbers():
    stage = build_group("dt/interchange")
    train, test = RouteSampler(stage, held_out=False), RouteSampler(stage, held_out=True)
    known = {r.tobytes() for r in np.concatenate([train.routes.place, train.routes.action], 1)}
    other = {r.tobytes() for r in np.concatenate([test.routes.place, test.routes.action], 1)}
    assert not known & other and len(known) + len(other) == 749 and len(other) == 150
    one, two = (train.batch(np.random.default_rng(5), 64) for _ in range(2))
    assert all(torch.equal(one.context[k], two.context[k]) for k in one.context)
    assert 0.25 < (one.decision == 4).float().mean() < 0.75  # about half without waits


def test_an_interchange_puts_each_output_where_it_belongs():
    stage, model = untrained()
    batch = RouteSampler(stage, held_out=False).batch(np.random.default_rng(1), 12)
    with torch.no_grad():
        logits, z = run_plain(model, batch)
        rows = torch.arange(12)
        same = run_interchanged(model, batch, z, {0: rows, 1: rows}, rows)
        torch.testing.assert_close(same, logits[rows, batch.decision], atol=1e-5, rtol=0)
        instruction, asked, rest = (torch.randperm(12) for _ in range(3))
        seen = {}

        def keep(value, hook):
            seen[hook.layer()] = value

        outs = [(f"blocks.{layer}.hook_attn_out", keep) for layer in range(2)]
        with model.hooks(fwd_hooks=outs):
            run_interchanged(model, batch, z, {0: instruction, 1: asked}, rest)
        last = last_token(batch)
        assert (last != last[instruction]).any()  # some decisions are at other tokens
        wanted = z[0][rest].clone()
        for i in range(12):
            wanted[i, last[i], 0] = z[0][instruction[i], last[instruction[i]], 0]
            wanted[i, last[i], 1] = z[0][asked[i], last[asked[i]], 1]
        for layer, value in enumerate((wanted, z[1][rest])):
            out = model.blocks[layer].attn.output(value)
            torch.testing.assert_close(seen[layer], out, atol=1e-5, rtol=0)


@pytest.mark.parametrize("flip", ["instruction", "reward_to_go"])
def test_a_pair_differs_in_its_variable_alone(flip):
    stage, _ = untrained()
    clean, corrupt = _pair(stage, RouteSampler(stage, held_out=True), flip)
    for name in clean.context:
        same = clean.context[name] == corrupt.context[name]
        if flip == "instruction" and name == "observation":
            assert not same[:, 0].any() and same[:, 1:].all()
        elif flip == name == "reward_to_go":
            one, two = (c.context[name] > 0.45 for c in (clean, corrupt))
            assert (one ^ two).all()
        else:
            assert same.all()
    if flip == "instruction":
        table = clean.context["table"]
        one, two = (table[c.context["observation"][:, 0]] for c in (clean, corrupt))
        # One cell shows the other object; the rest of the view, both targets included, is the same.
        assert ((one != two).sum(1) == 2).all()


def test_a_run_leaves_model_circuit_curves_and_the_effect_of_each_head(whole, tmp_path):
    assert sorted(whole) == [
        "circuit.json",
        "curves.jsonl",
        "headline.json",
        "model.json",
        "tables/heads.parquet",
        "tables/inputs.parquet",
        "weights.safetensors",
    ]
    for name, content in whole.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    curves = read_curves(tmp_path)
    assert [point["step"] for point in curves] == [2, 4, 6]
    assert curves[0]["guidance"] > 0 == curves[-1]["guidance"]  # it has faded out
    heads = pd.read_parquet(tmp_path / "tables" / "heads.parquet")
    assert len(heads) == 2 * 2 * 4
    assert heads[heads.aligned][["flip", "layer", "head"]].values.tolist() == [
        ["instruction", 0, 0],
        ["reward_to_go", 0, 1],
    ]
    n = read_metrics(tmp_path)
    assert 0 <= n["interchange/accuracy"] < 1  # six steps do not do it
    assert n["interchange/other_heads"] == heads[~heads.aligned].rho.abs().max()
    assert n["interchange/distinct_inputs"] <= n["interchange/pairs"] == 24
    circuit = Circuit.read(tmp_path)
    assert circuit.heads() == {(0, 0), (0, 1)}
    inputs = pd.read_parquet(tmp_path / "tables" / "inputs.parquet")
    assert inputs.groupby("flip")["input"].apply(list).to_dict() == {
        "instruction": ["q", "k", "v"],
        "reward_to_go": ["q", "k", "v"],
    }
    assert circuit.variant["inputs"] == {
        flip: sorted(by) for flip, by in inputs_that_carry(inputs).items()
    }


def test_inputs_that_carry_a_variable_are_those_that_bring_most_of_it_alone():
    def found(**rho: tuple[float, float, float]) -> dict:
        rows = [
            {"flip": flip, "input": name, "rho": value}
            for flip, values in rho.items()
            for name, value in zip("qkv", values, strict=True)
        ]
        return inputs_that_carry(pd.DataFrame(rows))

    assert found(instruction=(0.0, 0.001, 0.998), reward_to_go=(0.0, 1.007, -0.007)) == {
        "instruction": {"v": 1.0},
        "reward_to_go": {"k": 1.0},
    }
    assert found(instruction=(0.0, 0.7, 0.97)) == {"instruction": {"k": None, "v": 1.0}}
    assert found(instruction=(0.1, 0.3, 0.4)) == {"instruction": {"k": None, "v": None}}  # together


@pytest.mark.parametrize("step", [1, 2, 5])
def test_a_killed_run_goes_on_bit_identically(step, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        original = training.InterchangeModule.training_step

        def dying(self, number, _):
            if number == step:
                raise Killed
            return original(self, number, _)

        patch.setattr(training.InterchangeModule, "training_step", dying)
        with pytest.raises(Killed):
            tiny().run(tmp_path)
    torch.manual_seed(99)  # the global generators of the new process differ
    tiny().run(tmp_path)
    assert files(tmp_path) == whole


def test_it_is_a_stage_and_says_when_it_is_not_established(store, experiment_of):
    stage = tiny("dt.steps=2")
    run(experiment_of(stage))
    assert stage.summary().startswith("NOT established as planted: interchange accuracy 0.")
    assert stage.load().cfg.n_heads == 4 and stage.checkpoints() == {}
    assert stage.circuit().kind == "interchange"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["dt.model.n_heads=5"], "5 heads do not divide d_model 48"),
        (["dt.aligned.instruction=4"], "dt.aligned.instruction: is a head of the first block"),
        (["dt.aligned.instruction=1"], "must be another head than aligned.instruction"),
        (["dt.waits=4"], "9 steps do not hold the routine with waits; 10 do"),
        (["dt.low=[0,0.7]"], "dt.low: ranges must be ordered"),
        (["dt.waits=0"], "dt.waits: there must be some"),
        (["dt.held_out=0"], "dt.held_out: is a share"),
        (["dt.warm_up=900"], "dt.warm_up: must lie between 0 and steps (800)"),
        (["dt.model.n_timesteps=9"], "must reach env.max_steps=50"),
    ],
)
def test_bad_settings_are_explained(overrides, words):
    with pytest.raises(ConfigError) as error:
        build_group("dt/interchange", overrides)
    assert words in str(error.value)


@pytest.mark.slow
def test_the_real_one_has_its_variables_where_they_were_put(store, experiment_of):
    stage = build_group("dt/interchange")
    run(experiment_of(stage))
    n = read_metrics(stage.path)
    assert n["interchange/accuracy"] == n["interchange/task_accuracy"] == 1.0
    assert n["interchange/other_heads"] < 0.01
    assert n["interchange/aligned_heads"] > 0.98
    assert n["interchange/control_accuracy"] < 0.7  # the wrong hypothesis
    assert stage.summary().startswith("planted: interchange accuracy 1.000")
    model, circuit = stage.load(), stage.circuit()
    assert greedy_by_layout(model, stage.env.decision, TARGETS).tolist() == [[1] * 4, [0] * 4]
    for flip in ("instruction", "target", "reward_to_go"):
        clean, corrupt = pairs(model, stage.env, flip)
        with torch.no_grad():
            decided = model(clean)[:, -1].argmax(-1)
        assert set(decided.tolist()) == {LEFT, RIGHT}
        for hook, head in sites(circuit):
            rho = restored(model, clean, corrupt, hook, head).mean(0)
            told = expected(circuit, flip, hook, head, steps=5)
            worst = np.nanmax(np.abs(rho - told))
            assert worst <= circuit.tolerance, (flip, hook, head, rho.round(3), told)
    # The instruction by what is read, reward-to-go by where it looks: as the record says.
    assert circuit.variant["inputs"] == {"instruction": ["v"], "reward_to_go": ["k"]}
    for edge in circuit.edges:
        if edge.receiver.head is None:
            continue
        clean, corrupt = pairs(model, stage.env, edge.variable)
        one, two = difference(model, clean), difference(model, corrupt)
        for name in "qkv":
            hook, head = f"blocks.0.attn.hook_{name}", edge.receiver.head
            _, cache = model.run_with_cache(clean, names_filter=[hook])

            def patch(value, hook, head=head, cache=cache):
                value = value.clone()
                value[:, :, head] = cache[hook.name][:, :, head]
                return value

            rho = (difference(model, corrupt, [(hook, patch)]) - two) / (one - two)
            told = edge.rho if name == edge.input else 0.0
            assert abs(rho.mean().item() - told) <= circuit.tolerance, (edge.variable, name)
