"""Dashboards of neurons: the planted model's deciding neurons, and what is drawn against what is computed."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch

from dtx.analysis.neurons import Neurons
from dtx.analysis.neurons import compute as neurons_compute
from dtx.analysis.neurons.compute import compute, selectivity
from dtx.analysis.neurons.states import UNKNOWN, States, layouts_of, states_of
from dtx.analysis.neurons.worlds import NO_WORLD, views_and_worlds, world_picture
from dtx.config.compose import build_group
from dtx.config.ranges import problems
from dtx.dt.planted.truth import NEURONS
from dtx.env.encoding import flatten, one_hot
from dtx.errors import UserError
from dtx.report import read_metrics
from dtx.running.runner import run
from tests.analysis.scripted import Scripted
from tests.analysis.test_ablation import Given, model
from tests.dt.toy import Recorded

EIGHT = tuple(f"MLP1N{i}" for i in range(8))


@pytest.fixture
def stage(env) -> Neurons:
    return Neurons(
        env=env,
        dataset=Recorded(),
        dt=Given(model()),
        checkpoint=None,
        layers=None,
        neurons=3,
        named=(),
        states=60,
        shown=3,
        high=0.5,
        untrained=1,
        tolerance=1e-4,
        seed=0,
    )


def small(stage, network=None, **changes):
    """The result on random episodes, outside the store."""
    spec = dataclasses.replace(stage, **changes)
    return compute(spec, network or model(), Recorded().load(), stage.env.decision)


def test_the_planted_neurons_are_described_and_the_page_shows_them(
    env, stage, store, experiment_of
):
    built = dataclasses.replace(
        stage, dataset=Scripted(env=env), dt=build_group("dt/planted"), named=EIGHT, states=1500
    )
    run(experiment_of(built))
    result, episodes = built.result(), built.dataset.load()
    assert all(check.error is not None and check.error < 1e-5 for check in result.checks)
    cfg = built.dt.model_config()
    frame = states_of(episodes, cfg, env.decision, 1500, stage.high, stage.seed).frame
    value, shown = result.arrays["activations_trained"], result.tables["states"]
    there = (frame["decision square"] == "there").to_numpy()
    assert there.sum() >= 8 and np.abs(value[~there]).max() < 1e-5
    inst = np.where(frame.instruction == "key", 1, -1)[there]
    side = np.where(frame["target side"] == "left", 1, -1)[there]
    high = np.where(frame["reward-to-go"] == "high", 1, -1)[there]
    table = result.tables["neurons"]
    table = table[table.model == "trained"].set_index("name")
    for i, (key, key_left, much) in enumerate(NEURONS):
        wanted = (inst == key) & (side * inst == key_left) & (high == much)
        assert wanted.any()
        assert value[there][:, i] == pytest.approx(wanted.astype(float), abs=1e-5), EIGHT[i]
        # In words: the fact, the value, the logits.
        row, turn = table.loc[EIGHT[i]], "left" if key == key_left else "right"
        words = f"{'key' if key > 0 else 'ball'}/{turn}, RTG {'high' if much > 0 else 'low'}"
        assert (row.fact, row.peak) == ("decision", words)
        assert row.selectivity == pytest.approx(1)
        left = 20 if key * key_left * much > 0 else -20
        assert (row.left, row.right, row.forward) == pytest.approx((left, -left, 0), abs=1e-5)
        strong = shown[(shown["name"] == EIGHT[i]) & (shown["set"] == "trained")]
        assert (strong.decision[strong.activation > 1e-5] == words).all()
        assert strong.activation.iloc[0] == pytest.approx(1, abs=1e-5)
    assert built.summary().startswith("selectivity 1.00 (all 8 neurons shown), one more ")
    assert result.established
    assert read_metrics(built.path)["neurons/selectivity"] == pytest.approx(1)
    page = (built.path / "figures" / "neurons.html").read_text()
    assert page.count("<section") == 8 and "http" not in page
    drawn = {int(n) for n in re.findall(r'data-p="(\d+)"', page)}
    assert drawn == set(range(len(re.findall(r'"iVBOR[^"]+"', page)))) and len(drawn) > 10
    assert (built.path / "figures" / "neurons.png").stat().st_size > 10_000
    # The world that is drawn is one in which the agent sees what it saw; else none is.
    first = shown.iloc[0]
    drawn = world_picture(episodes, env.decision, first)
    assert drawn is not None and (drawn == result.arrays["worlds"][first.world]).all()
    assert (
        episodes.observations[episodes.observation[first.row]]
        == result.arrays["views"][first["view"]]
    ).all()
    moved = first.copy()
    moved["row"] -= 1
    assert world_picture(episodes, env.decision, moved) is None


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gated_mlp": True, "act_fn": "relu", "normalization_type": None},
        {"left_padding": True},
        {"reward_to_go": False, "n_ctx": 17},
    ],
)
def test_activations_are_those_of_each_window_alone(stage, changes):
    network = model(**changes)
    states = states_of(Recorded().load(), network.cfg, stage.env.decision, 40, 0.5, 0)
    value = states.activations(network, [0, 1])
    assert value.std() > 0.01
    for s in range(0, 40, 7):
        context = states.context(np.array([s]))
        with torch.no_grad():
            _, cache = network.run_with_cache(context)
        for layer in (0, 1):
            at = int(states.place(np.array([s]))[0])
            assert at == context.shape[1] - 1
            own = cache[f"blocks.{layer}.mlp.hook_post"][0, at].numpy()
            assert np.allclose(value[s, layer], own, atol=1e-4 * max(1, np.abs(own).max()))
    result = small(stage, network)
    recomputed, *attribution = (check.error for check in result.checks)
    assert recomputed is not None and recomputed < 1e-4
    assert attribution and all(error is not None and error < 1e-9 for error in attribution)
    assert len(result.tables["neurons"]) == 2 * 3 and len(result.tables["states"]) == 3 * 3 * 3


def test_without_a_decision_nothing_is_said_of_layouts(stage):
    result = compute(stage, model(), Recorded().load())
    assert set(result.tables["facts"].fact) == {"reward-to-go", "action before", "ahead"}
    assert (result.tables["states"].world == NO_WORLD).all() and not len(result.arrays["worlds"])
    assert [name for name, _ in stage.figures(result)] == ["neurons", "neurons"]


def test_views_are_those_of_the_state_and_of_its_windows_first_step(stage):
    episodes = Recorded().load()
    states = states_of(episodes, model().cfg, None, 40, 0.5, 0)
    which = np.array([3, 0, 3, 7])
    looks, pictures = views_and_worlds(states, which, episodes, None)
    context = states.context(which)
    seen = context["table"][context["observation"]]
    length = states.drawn.length[which]
    for row, (place, steps) in enumerate(zip(looks.itertuples(index=False), length, strict=True)):
        for view, step in ((place.view, steps - 1), (place.first_view, 0)):
            assert np.array_equal(
                flatten(one_hot(pictures["views"][view])), seen[row, step].numpy()
            )


def test_what_is_shown_in_the_wrong_place_is_not_established(stage, monkeypatch):
    original = neurons_compute._shown

    def shifted(*args):
        table = original(*args)
        return table.assign(state=(table.state + 1) % 60)

    monkeypatch.setattr(neurons_compute, "_shown", shifted)
    result = small(stage)
    (failed,) = (check for check in result.checks if not check.holds)
    assert "on that window alone" in failed.name and failed.error > 0.01
    assert not result.established and result.summary.startswith("not established (check failed")


@pytest.mark.parametrize("broken", [1.01, float("nan")])
def test_activations_that_are_not_the_models_are_not_established(stage, monkeypatch, broken):
    original = States.activations

    def scaled(*args):
        return broken * original(*args)

    monkeypatch.setattr(States, "activations", scaled)
    assert not small(stage, named=("MLP0N1",)).checks[0].holds


def test_congruence_that_is_not_what_the_mlp_adds_is_not_established(stage, monkeypatch):
    monkeypatch.setattr(neurons_compute, "identity_errors", lambda *_: {"raw": 3.0})
    result = small(stage)
    assert not result.established and "MLP adds to the logits, raw weights: 3" in result.summary


def test_states_are_distinct_and_end_where_they_say(stage):
    episodes, network = Recorded().load(), model()
    states = states_of(episodes, network.cfg, stage.env.decision, 50, 0.5, 0)
    frame = states.frame
    assert len(frame) == 50 and (episodes.split[frame.episode] == 0).all()
    first = episodes.observation[episodes.start[frame.episode]]
    keys = np.stack(
        [
            episodes.observation[frame.row],
            first,
            np.rint(frame.reward_to_go * 10),
            frame.action_before,
        ],
        1,
    )
    assert len(np.unique(keys, axis=0)) == 50
    assert (states.drawn.row + states.drawn.length - 1 == frame.row).all()
    assert (episodes.start[frame.episode] + frame.step == frame.row).all()
    # These random views are of no layout.
    assert set(frame.instruction) <= {UNKNOWN, "key", "ball"}
    context = states.context(np.array([0]))
    assert context["reward_to_go"][0, -1].item() == pytest.approx(frame.reward_to_go[0])


def test_layouts_are_known_by_the_first_view_or_the_decision(env):
    small = build_group("env/memory")
    large = build_group("env/memory", ["env.size=11"])
    for task in (small, large):
        vector = task.decision.vector([0, 1, 2, 3], 0)
        seen = [vector.reset().copy()]
        for _ in range(task.decision.step):
            seen.append(vector.step(np.full(4, 2)).observations.copy())
        vector.close()
        steps = len(seen)
        views = np.stack(seen, 1).reshape(-1, 7, 7, 3)
        episodes = dataclasses.replace(
            Recorded().load(),
            observations=views,
            observation=np.arange(4 * steps),
            start=np.arange(4) * steps,
            length=np.full(4, steps),
        )
        assert layouts_of(episodes, task.decision, np.array([3, 0, 2, 1])).tolist() == [3, 0, 2, 1]


def test_selectivity_is_one_for_a_fact_and_nothing_for_noise(stage):
    states = states_of(Recorded().load(), model().cfg, stage.env.decision, 200, 0.5, 0)
    is_left = (states.frame["action before"] == "left").to_numpy(float)
    fact, share, peak = selectivity(is_left, states)
    assert (fact, peak) == ("action before", "left") and share == pytest.approx(1)
    noise = np.random.default_rng(0).standard_normal(len(is_left))
    assert selectivity(noise, states)[1] < 0.1
    assert selectivity(np.ones(len(is_left)), states) == ("none", 0.0, "nowhere")


def test_an_untrained_model_is_not_more_selective_than_another(stage):
    from dtx.dt.load import untrained_like

    fresh = untrained_like(model(), 7)
    result = small(stage, fresh, neurons=16)
    (control,) = result.controls
    assert not control.holds and not result.established
    assert result.summary.startswith("not established (control failed: mean selectivity")


def test_what_is_not_there_is_named(stage):
    with pytest.raises(UserError, match="named: the model has no neuron MLP0N99"):
        small(stage, named=("MLP0N99",))
    with pytest.raises(UserError, match="layers: the model has layers 0 to 1, not 4"):
        small(stage, layers=(4,))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"layers": ()}, "layers"),
        ({"layers": (1, -1)}, "layers[1]"),
        ({"named": ("N1",)}, "named"),
        ({"neurons": 0}, "neurons"),
        ({"states": 5}, "states"),
        ({"untrained": -1}, "untrained"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"checkpoint": -1}, "checkpoint"),
    ],
)
def test_impossible_values_are_named(stage, change, field):
    stage = dataclasses.replace(stage, **change)
    assert [name for name, _ in [*stage.check(), *problems(stage)]] == [field]
