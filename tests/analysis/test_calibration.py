import dataclasses

import numpy as np
import pandas as pd
import pytest

from dtx.analysis.calibration import Calibration
from dtx.analysis.calibration.baselines import FailingPolicy, play
from dtx.analysis.calibration.compute import result_of, training_support
from dtx.analysis.calibration.criteria import claims, controls, judge, measure
from dtx.analysis.calibration.spec import (
    CLONE,
    DT,
    FAILING,
    GREEDY,
    RANDOM,
    SHUFFLED,
    UNTRAINED,
    CalibrationSpec,
    Criteria,
)
from dtx.analysis.core.decision import demonstrated
from dtx.analysis.core.result import Verdict
from dtx.config.ranges import problems
from dtx.dataset.episodes import Outcome
from dtx.dt.decision_transformer import DecisionTransformer
from dtx.dt.shuffled_reward_to_go import ShuffledRewardToGo
from dtx.dt.spec import Balance
from dtx.report import read_metrics
from dtx.running.runner import run
from dtx.statistics import Estimate, enumerated

CRITERIA = Criteria(
    high=0.9,
    min_success=0.95,
    low=0,
    max_above_failing=0.05,
    min_wrong_layouts=0.75,
    max_from_demonstrations=0.05,
    min_spearman=0.9,
    max_from_chance=0.05,
    max_distance=0.05,
)


def surely(value: float) -> Estimate:
    return Estimate(value, value - 0.01, value + 0.01, 400, "t over 400 episodes")


GOOD = {
    "success_high": Estimate(1.0, 0.991, 1.0, 400, "exact binomial, 400 episodes"),
    "above_failing": surely(0.02),
    "spearman": surely(0.98),
    "mae": surely(0.03),
    "greedy_wrong_layouts": enumerated(0.75, 4),
    "junction_distance_low": enumerated(0.04, 4),
    "response": surely(0.8),
    "shuffled_response": surely(0.05),
    "from_chance": surely(-0.01),
}

NO_DECISION = pd.DataFrame({"target": [], "source": []})


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
        shuffled=shuffled_like(tiny),
        untrained=untrained,
        targets=(0.0, 0.5, 0.9),
        episodes=24,
        greedy_episodes=4,
        control_episodes=16,
        temperature=1,
        support=5,
        criteria=CRITERIA,
        seed=0,
    )


def shuffled_like(model: DecisionTransformer) -> ShuffledRewardToGo:
    return ShuffledRewardToGo(**{f.name: getattr(model, f.name) for f in dataclasses.fields(model)})


def verdicts(found: dict[str, Estimate]) -> dict[str, Verdict]:
    return {c.id: c.verdict for c in claims(CRITERIA, judge(CRITERIA, found))}


def test_all_criteria_met_is_steered_and_calibrated():
    assert set(verdicts(GOOD).values()) == {Verdict.CONFIRMED}
    assert all(control.holds for control in controls(CRITERIA, GOOD))


@pytest.mark.parametrize(
    ("name", "value", "state"),
    [
        ("success_high", surely(0.9), "not met"),
        ("success_high", Estimate(0.97, 0.94, 0.98, 400, ""), "not decided"),
        ("above_failing", surely(0.1), "not met"),
        ("above_failing", surely(0.045), "not decided"),
        ("spearman", surely(0.8), "not met"),
        ("spearman", Estimate(np.nan, np.nan, np.nan, 400, ""), "not decided"),
        ("greedy_wrong_layouts", enumerated(0.5, 4), "not met"),
        ("junction_distance_low", enumerated(0.06, 4), "not met"),
    ],
)
def test_each_criterion_can_fail_alone(name, value, state):
    found = {**GOOD, name: value}
    table = judge(CRITERIA, found)
    assert table.state[~table.met].tolist() == [state]
    wanted = Verdict.NOT_DECIDED if state == "not decided" else Verdict.NOT_CONFIRMED
    assert verdicts(found) == {"steered": wanted, "calibrated": wanted}


def test_steered_is_not_calibrated():
    assert verdicts({**GOOD, "mae": surely(0.13)}) == {
        "steered": Verdict.CONFIRMED,
        "calibrated": Verdict.NOT_CONFIRMED,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [("from_chance", surely(0.2)), ("shuffled_response", surely(0.79)), ("response", surely(0.0))],
)
def test_each_control_can_fail_alone(name, value):
    held = [control.holds for control in controls(CRITERIA, {**GOOD, name: value})]
    assert sorted(held) == [False, True]


def test_a_model_whose_return_equals_its_target_is_measured_so(curve_of):
    """Planted returns: each number is known, and the intervals hold it."""
    spec, curve, returns = curve_of(noise=0.2)
    found = measure(spec, curve, returns, NO_DECISION, np.array([True] * 4))
    assert found["spearman"].value == 1 and found["spearman"].low > 0.9
    assert found["mae"].low <= found["mae"].value <= 0.02
    assert found["response"].low < 0.9 < found["response"].high
    assert found["above_failing"].low <= 0 <= found["above_failing"].high
    assert abs(found["shuffled_response"].value) < 0.1
    flat = measure(spec, curve, {**returns, DT: returns[CLONE]}, NO_DECISION, None)
    assert flat["response"].value == 0 and not flat["spearman"].low > 0


@pytest.fixture
def curve_of():
    def make(noise: float):
        rng = np.random.default_rng(0)
        targets = np.linspace(0, 1, 11).round(1)
        spec = CalibrationSpec(
            targets=tuple(targets), episodes=400, greedy_episodes=1, control_episodes=100,
            temperature=1.0, support=20, criteria=CRITERIA, seed=0,
        )  # fmt: skip
        spread = noise * rng.uniform(-1, 1, (11, 400)) * np.minimum(targets, 1 - targets)[:, None]
        returns = {
            DT: targets[:, None] + spread,
            CLONE: np.tile(rng.random(100), (11, 1)),
            SHUFFLED: rng.random((11, 100)),
            UNTRAINED: np.zeros((11, 100)),
            RANDOM: np.zeros((11, 400)),
            FAILING: np.zeros((1, 400)),
        }
        curve = pd.DataFrame(
            {"model": DT, "target": targets, "supported": True, "success": 1.0, "episodes": 400}
        )
        return spec, curve, returns

    return make


def test_a_few_steps_of_training_do_not_steer(store, experiment_of, stage):
    run(experiment_of(stage))
    result = stage.result()
    assert result.claim("steered").verdict in (Verdict.NOT_CONFIRMED, Verdict.NOT_ESTABLISHED)
    assert "behaviour clone: return does not vary with RTG" in stage.summary()
    assert "/4 layouts" in stage.summary() and "failing demonstrations" in stage.summary()
    numbers = read_metrics(stage.path)
    assert numbers["calibration/steered"] == numbers["calibration/calibrated"] == 0
    # The control that is an identity: without R tokens, targets cannot matter.
    assert numbers["calibration/clone_spread"] == 0
    curve = pd.read_parquet(stage.path / "tables" / "curve.parquet")
    assert set(curve.model) == {DT, GREEDY, CLONE, SHUFFLED, UNTRAINED, RANDOM, FAILING}
    assert np.allclose(curve.success + curve.wrong + curve.truncated, 1)
    assert (curve.low <= curve.mean_return + 1e-9).all() and (
        curve.mean_return <= curve.high + 1e-9
    ).all()
    assert (curve.distinct_episodes <= curve.episodes).all()
    criteria = pd.read_parquet(stage.path / "tables" / "criteria.parquet")
    assert set(criteria.state) <= {"met", "not met", "not decided"} and (criteria.n > 0).all()
    decision = pd.read_parquet(stage.path / "tables" / "decision.parquet")
    assert len(decision[decision.source == DT]) == 3 * 4
    for name in ("calibration.png", "calibration.html"):
        assert (stage.path / "figures" / name).stat().st_size > 10_000


def test_controls_that_fail_establish_nothing(curve_of):
    """A clone whose return varies, outcomes that do not add up, an untrained model far from chance."""
    spec, curve, returns = curve_of(noise=0.2)
    curve = curve.assign(wrong=0.0, truncated=0.0, distinct_episodes=9)
    decision, wrong = NO_DECISION, np.array([True] * 4)

    def result(curve=curve, **changes):
        return result_of(spec, curve, {**returns, **changes}, decision, wrong)

    assert result().established and result().claim("steered").verdict is Verdict.NOT_DECIDED
    clone = returns[CLONE].copy()
    clone[0] += 1e-6
    broken = [
        result(**{CLONE: clone}),
        result(**{CLONE: returns[CLONE] * np.nan}),
        result(curve.assign(truncated=0.1)),
        result(curve.assign(wrong=np.nan)),
        result(**{UNTRAINED: returns[UNTRAINED] + 0.3}),
        result(**{UNTRAINED: returns[UNTRAINED] * np.nan}),
        result(**{SHUFFLED: returns[DT][:, :100]}),
    ]
    for each in broken:
        assert not each.established
        assert each.claim("steered").verdict is Verdict.NOT_ESTABLISHED
    for missing in (CLONE, SHUFFLED):
        rest = {name: of for name, of in returns.items() if name != missing}
        assert not result_of(spec, curve, rest, decision, wrong).established


def test_failing_demonstrations_fail_as_long_as_they_remember(store, experiment_of, rollouts, env):
    """With the instruction in sight of the window, nothing that failed leads to success."""
    run(experiment_of(rollouts))
    episodes = rollouts.load()
    whole = FailingPolicy(episodes, env.n_actions, env.horizon)
    first = np.asarray(episodes.observation)[np.asarray(episodes.start)]
    here = np.asarray(episodes.observation)[np.asarray(episodes.start)]
    chances = whole.probabilities(first, here, 0)
    assert np.allclose(chances.sum(1), 1) and (chances >= 0).all()
    failing = (episodes.split == 0) & (episodes.returns <= 0)
    same = failing & (first == first[failing][0])
    taken = np.bincount(episodes.action[episodes.start[same]], minlength=env.n_actions)
    at_start = whole._both[first[failing][0], first[failing][0]]
    assert (at_start >= taken).all()  # visits of the first square later in an episode count, too
    forgets = FailingPolicy(episodes, env.n_actions, 1)
    one, two = (play(p, env, 200, 1) for p in (whole, forgets))
    assert one.returns.mean() <= two.returns.mean() + 0.05
    again = play(whole, env, 200, 1)
    assert (again.returns == one.returns).all() and (again.length == one.length).all()


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
    one, two = play(None, env, 400, 3), play(None, env, 400, 3)
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
    wrong = dataclasses.replace(
        stage, behaviour_clone=stage.dt, shuffled=stage.dt, untrained=stage.dt
    )
    assert {name for name, _ in wrong.check()} == {"behaviour_clone", "shuffled", "untrained"}


def test_a_model_that_was_not_trained_here_has_no_clone(store, experiment_of, stage):
    from dtx.config.compose import build_group

    given = dataclasses.replace(
        stage, dt=build_group("dt/planted"), behaviour_clone=None, shuffled=None, untrained=None
    )
    alone = dataclasses.replace(given, dataset=None)
    run(experiment_of(given, alone))
    for calibration in (given, alone):
        numbers = read_metrics(calibration.path)
        assert numbers["calibration/clone_spread"] is None
        assert numbers["calibration/success_high"] == 1 and numbers["calibration/return_low"] == 0
        assert numbers["calibration/greedy_wrong_layouts"] == 1
        result = calibration.result()
        assert not result.established and "no clone" in calibration.summary()
        assert "no model was trained with shuffled returns" in calibration.summary()
        assert result.claim("steered").verdict is Verdict.NOT_ESTABLISHED
        curve = pd.read_parquet(calibration.path / "tables" / "curve.parquet")
        assert {DT, GREEDY, UNTRAINED, RANDOM} <= set(curve.model)
        assert (FAILING in set(curve.model)) == (calibration is given)
    sources = [
        set(pd.read_parquet(c.path / "tables" / "decision.parquet").source) for c in (given, alone)
    ]
    assert sources == [{DT, "demonstrations, as recorded"}, {DT}]
    assert curve.supported.all() and curve.training_episodes.isna().all()
