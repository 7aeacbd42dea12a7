import dataclasses

import numpy as np
import pandas as pd
import pytest

from dtx.analysis.calibration import Calibration
from dtx.analysis.calibration.compute import play_uniformly, result_of, training_support
from dtx.analysis.calibration.criteria import judge
from dtx.analysis.calibration.spec import CLONE, DT, RANDOM, UNTRAINED, Criteria
from dtx.analysis.core.decision import demonstrated
from dtx.analysis.core.result import Verdict
from dtx.config.ranges import problems
from dtx.dataset.episodes import Outcome
from dtx.dt.spec import Balance
from dtx.report import read_metrics
from dtx.run.runner import run

CRITERIA = Criteria(
    high=0.9,
    min_success=0.95,
    low=0,
    max_return=0.12,
    min_wrong_layouts=0.75,
    min_spearman=0.9,
    max_from_chance=0.05,
)
GOOD = {
    "success_high": 0.98,
    "return_low": 0.08,
    "spearman": 0.95,
    "clone_spread": 0.0,
    "untrained_return": 0.11,
    "random_return": 0.10,
    "greedy_wrong_layouts": 0.75,
    "junction_wrong_low": 0.4,
    "junction_right_low": 0.2,
}


@pytest.fixture
def stage(env, rollouts, tiny) -> Calibration:
    untrained = dataclasses.replace(
        tiny, steps=0, optimiser=dataclasses.replace(tiny.optimiser, warm_up=0)
    )
    return Calibration(
        env=env,
        dataset=rollouts,
        dt=tiny,
        behaviour_clone=dataclasses.replace(tiny, reward_to_go=False),
        untrained=untrained,
        targets=(0.0, 0.5, 0.9),
        episodes=24,
        greedy_episodes=4,
        control_episodes=8,
        temperature=1,
        support=5,
        resamples=200,
        criteria=CRITERIA,
        seed=0,
    )


def test_all_criteria_met_is_steered():
    assert judge(CRITERIA, GOOD).met.all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("success_high", 0.94),
        ("return_low", 0.13),
        ("spearman", 0.85),
        ("spearman", np.nan),
        ("clone_spread", 0.001),
        ("untrained_return", 0.3),
        ("greedy_wrong_layouts", 0.5),
        ("junction_wrong_low", 0.2),
    ],
)
def test_each_criterion_can_fail_alone(name, value):
    table = judge(CRITERIA, {**GOOD, name: value})
    assert (~table.met).sum() == 1


def test_a_few_steps_of_training_do_not_steer(store, experiment_of, stage):
    run(experiment_of(stage))
    result = stage.result()
    assert result.established and result.claim("steered").verdict is Verdict.NOT_CONFIRMED
    assert "missed: " in result.claim("steered").evidence
    assert "behaviour clone: return does not vary with RTG" in stage.summary()
    assert "/4 layouts" in stage.summary()
    numbers = read_metrics(stage.path)
    assert numbers["calibration/steered"] == 0
    # The control that is an identity: without R tokens, targets cannot matter.
    assert numbers["calibration/clone_spread"] == 0
    curve = pd.read_parquet(stage.path / "tables" / "curve.parquet")
    assert set(curve.model) == {DT, f"{DT}, greedy", CLONE, UNTRAINED, RANDOM}
    assert np.allclose(curve.success + curve.wrong + curve.truncated, 1)
    assert (curve.low <= curve.mean_return + 1e-9).all() and (
        curve.mean_return <= curve.high + 1e-9
    ).all()
    assert (curve.distinct_episodes <= curve.episodes).all()
    decision = pd.read_parquet(stage.path / "tables" / "decision.parquet")
    assert len(decision[decision.source == DT]) == 3 * 4
    for name in ("calibration.png", "calibration.html"):
        assert (stage.path / "figures" / name).stat().st_size > 10_000


def test_controls_that_fail_establish_nothing(store, experiment_of, stage):
    """A clone whose return varies, outcomes that do not add up, an untrained model far from chance."""
    run(experiment_of(stage))
    tables = stage.result().tables
    curve, decision = tables["curve"], tables["decision"]
    wrong = np.array([True, True, True, False])
    assert result_of(stage, curve, decision, wrong).established
    for model, column, change in (
        (CLONE, "mean_return", 1e-6), (DT, "success", 0.1), (UNTRAINED, "mean_return", 0.3),
        (DT, "wrong", np.nan), (CLONE, "mean_return", np.nan), (UNTRAINED, "mean_return", np.nan),
    ):  # fmt: skip
        broken = curve.copy()
        at = broken.index[broken.model == model][0]
        broken.loc[at, column] += change
        if column == "mean_return" and model == UNTRAINED:
            broken.loc[broken.model == model, column] += change
        result = result_of(stage, broken, decision, wrong)
        assert not result.established, (model, column)
        assert result.claim("steered").verdict is Verdict.NOT_ESTABLISHED


def test_support_counts_each_training_episode_once(store, experiment_of, rollouts):
    run(experiment_of(rollouts))
    episodes = rollouts.load()
    targets = tuple(np.linspace(0, 1, 11))
    counts = training_support(episodes, targets)
    training = episodes.returns[episodes.split == 0]
    assert sum(counts.values()) == len(training)
    assert counts[0.0] == (training < 0.05).sum()
    # A return far from every target supports none.
    assert sum(training_support(episodes, (0.9, 1.0)).values()) == (training >= 0.85).sum()


def test_demonstrated_choice_against_a_loop(store, experiment_of, rollouts, env):
    run(experiment_of(rollouts))
    episodes = rollouts.load()
    decision = env.decision
    table = demonstrated(episodes, env.decision, high=0.8, balance=Balance.outcome)
    counts = {}
    for e in range(len(episodes.start)):
        rows = slice(episodes.start[e], episodes.start[e] + episodes.length[e])
        seen, actions = episodes.observations[episodes.observation[rows]], episodes.action[rows]
        if list(actions[: decision.step]) != [2] * decision.step or len(actions) <= decision.step:
            continue  # not on the routine
        layout = int(decision.layout_of(seen[0], seen[decision.step]))
        if episodes.reward[rows].sum() == 0:
            key = (decision.layouts[layout], int(actions[decision.step]))
            counts[key] = counts.get(key, 0) + 1
    low = table[(table.reward_to_go == "low") & (table.weighting == "as recorded")].set_index(
        "layout"
    )
    for index, name in enumerate(decision.layouts):
        total = sum(v for (layout, _), v in counts.items() if layout == name)
        assert low.episodes[name] == total
        if total:
            right = int(decision.turns([index])[0][0])
            assert low.right_turn[name] == pytest.approx(counts.get((name, right), 0) / total)
            assert low.wrong_turn[name] == pytest.approx(counts.get((name, 1 - right), 0) / total)


def test_uniform_play_is_reproducible_and_has_all_outcomes(env):
    one, two = play_uniformly(env, 400, 3), play_uniformly(env, 400, 3)
    assert (one.length == two.length).all() and (one.outcome == two.outcome).all()
    assert set(np.unique(one.outcome)) == set(Outcome)
    assert ((one.outcome == Outcome.SUCCESS) == (one.returns > 0)).all()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"episodes": 0}, "episodes"),
        ({"temperature": 0}, "temperature"),
        ({"targets": (0.0, 0.0)}, "targets"),
        ({"criteria": dataclasses.replace(CRITERIA, high=0.8)}, "criteria.high"),
    ],
)
def test_impossible_values_are_named(stage, change, field):
    wrong = dataclasses.replace(stage, **change)
    assert field in [name for name, _ in (*wrong.check(), *problems(wrong))]


def test_a_control_must_be_a_control(stage):
    wrong = dataclasses.replace(stage, behaviour_clone=stage.dt, untrained=stage.dt)
    assert {name for name, _ in wrong.check()} == {"behaviour_clone", "untrained"}


def test_a_model_that_was_not_trained_here_has_no_clone(store, experiment_of, stage, env, tmp_path):
    from dtx.config.compose import build_group

    given = dataclasses.replace(
        stage, dt=build_group("dt/planted"), behaviour_clone=None, untrained=None
    )
    alone = dataclasses.replace(given, dataset=None)
    run(experiment_of(given, alone))
    for calibration in (given, alone):
        numbers = read_metrics(calibration.path)
        assert numbers["calibration/clone_spread"] is None and not numbers["calibration/steered"]
        assert numbers["calibration/success_high"] == 1 and numbers["calibration/return_low"] == 0
        assert numbers["calibration/greedy_wrong_layouts"] == 1
        result = calibration.result()
        assert not result.established and "no clone" in calibration.summary()
        assert result.claim("steered").verdict is Verdict.NOT_ESTABLISHED
        criteria = pd.read_parquet(calibration.path / "tables" / "criteria.parquet")
        missed = criteria[~criteria.met].criterion.tolist()
        assert any("not established: no clone" in criterion for criterion in missed)
        curve = pd.read_parquet(calibration.path / "tables" / "curve.parquet")
        assert set(curve.model) == {DT, f"{DT}, greedy", UNTRAINED, RANDOM}
    sources = [
        set(pd.read_parquet(c.path / "tables" / "decision.parquet").source) for c in (given, alone)
    ]
    assert sources == [{DT, "demonstrations, as recorded"}, {DT}]
    assert curve.supported.all() and curve.training_episodes.isna().all()
