import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from dtx.analysis.core.recorder import looks_back
from dtx.analysis.core.result import About, Verdict
from dtx.analysis.psychology import Psychology
from dtx.analysis.psychology.claims import cached, decision_squares, routine
from dtx.analysis.psychology.compute import result_of
from dtx.analysis.psychology.measure import (
    PolicyMeasures,
    divergence_of,
    jensen_shannon,
    measure,
    opposed,
    policies,
)
from dtx.analysis.psychology.poses import FORWARD, LEFT, RIGHT, reach
from dtx.analysis.psychology.spec import TRAINED
from dtx.analysis.scorecard.claims import TRUTHS
from dtx.config.compose import build_group
from dtx.config.ranges import problems
from dtx.dt.rollout import decision_probabilities
from dtx.dt.tokens import DECISION_TRANSFORMER
from dtx.env.encoding import one_hot
from dtx.env.memory import BALL
from dtx.report import read_metrics
from dtx.run.runner import run
from tests.analysis.core.test_windows import model


@pytest.fixture(scope="module")
def poses(env):
    return reach(env.decision, 8)


@pytest.fixture
def stage(env, tiny) -> Psychology:
    return Psychology(
        env=env, dt=tiny, checkpoint=None, targets=(0.0, 0.9), low=0.0, high=0.9, threshold=0.1,
        episodes=2, untrained=1, resamples=100, seed=0,
    )  # fmt: skip


class Scripted:
    """A policy whose mind is known: forward, but at the junction the turn that the instruction asks for;
    the other turn if little is asked for."""

    def __init__(self, decision):
        self.decision = decision
        self.cfg = SimpleNamespace(
            n_actions=7,
            n_steps=9,
            left_padding=False,
            reward_to_go=True,
            layout=DECISION_TRANSFORMER,
        )

    def last_logits(self, context):
        cells = context["table"].numpy()[context["observation"].numpy()]  # b t c
        objects = cells.reshape(*cells.shape[:2], 20, 7, 7)[:, :, :11].argmax(2)
        instruction, last = objects[:, 0, 2, 6], objects[:, -1]
        seen = np.zeros((len(last), 7, 7, 3), np.uint8)
        seen[..., 0] = last
        left_matches = last[:, 1, 6] == instruction
        turn = np.where(left_matches, LEFT, RIGHT)
        low = context["reward_to_go"][:, -1].numpy() < 0.5
        turn = np.where(low, LEFT + RIGHT - turn, turn)
        action = np.where(self.decision.here(seen), turn, FORWARD)
        return torch.nn.functional.one_hot(torch.from_numpy(action), 7) * 40.0


def test_poses_are_reached_by_their_actions(env, poses):
    assert poses.actions[0] == () and max(map(len, poses.actions)) <= 8
    assert len(set(poses.pose)) == len(poses.pose) > 30
    for pose, actions in list(zip(poses.pose, poses.actions, strict=True))[::5]:
        world = env.decision.make(3)
        observation, _ = world.reset(seed=5)
        for action in actions:
            observation, *_ = world.step(action)
        place = world.unwrapped
        assert (*map(int, place.agent_pos), int(place.agent_dir)) == pose
        seen = poses.observations[3][poses.pose.index(pose)]
        assert len(seen) == len(actions) + 1 and (seen[-1] == observation["image"]).all()


def test_routine_poses_lie_on_the_routine(env, poses):
    on = poses.on_routine(env.decision)
    assert on.sum(1).tolist() == [6] * 4  # the start, four steps, the turn; the last step ends it
    assert poses.after([FORWARD] * env.decision.step) is not None
    assert poses.after([LEFT] * 7) is None


def test_divergence_is_0_to_ln_2():
    p, q = np.eye(3)[0], np.eye(3)[1]
    assert jensen_shannon(p, p) == 0
    assert jensen_shannon(p, q) == pytest.approx(np.log(2))
    assert opposed(SimpleNamespace(
        layouts="abcd", turns=lambda y: (np.asarray(y) % 2, 1 - np.asarray(y) % 2)
    )) == [(0, 1), (0, 3), (1, 2), (2, 3)]  # fmt: skip


def test_a_policy_that_decides_at_one_square_has_one(env, poses, stage):
    probability, distinct = policies(Scripted(env.decision), poses, stage.targets)
    assert distinct == len(stage.targets) * 4 * len(poses.pose)
    divergence = divergence_of(stage, env.decision, poses, probability).assign(model=TRAINED)
    for target in stage.targets:
        squares = decision_squares(stage, divergence, TRAINED, target)
        assert (squares.poses, squares.before_turn, squares.cells) == (1, 1, [(5, 3)])
    none = pd.DataFrame()
    measured = PolicyMeasures(none, divergence, none, probability, poses, 0.0, 0.0, distinct)
    followed = routine(stage, env.decision, measured)
    assert (followed["routine_share_high"], followed["routine_share_low"]) == (1, 0)
    # It turns once and then walks on, whichever side it faces.
    after = cached(stage, env.decision, measured)
    assert after["forward_after_wrong_turn"] == pytest.approx(1)


def test_the_planted_model_has_one_decision_square(store, experiment_of, poses, stage, env):
    planted = build_group("dt/planted")
    run(experiment_of(planted))
    probability, _ = policies(planted.load(), poses, stage.targets)
    divergence = divergence_of(stage, env.decision, poses, probability).assign(model=TRAINED)
    for target in stage.targets:
        squares = decision_squares(stage, divergence, TRAINED, target)
        assert (squares.before_turn, squares.cells) == (1, [(5, 3)])


def test_policies_that_are_none_establish_nothing(env, stage):
    measured = measure(stage, model(n_layers=1), env.decision)
    sound = result_of(stage, env.decision, measured)
    assert sound.established and len(sound.claims) == 6
    for broken in ("sum_error", "self_divergence"):
        for value in (1e-3, np.nan):
            changed = dataclasses.replace(measured, **{broken: value})
            result = result_of(stage, env.decision, changed)
            assert not result.established and result.summary.startswith("not established")
            assert {claim.verdict for claim in result.claims} == {Verdict.NOT_ESTABLISHED}


def test_policies_at_the_decision_are_the_rollouts(env, poses):
    network = model(n_layers=1)
    probability, _ = policies(network, poses, (0.0, 0.9))
    place = poses.after([FORWARD] * env.decision.step)
    want = decision_probabilities(network, env.decision, [0.0, 0.9])
    assert np.abs(probability[:, :, place] - want).max() < 1e-6


@pytest.mark.parametrize("left", [False, True])
def test_padding_does_not_change_the_shape(poses, left):
    probability, _ = policies(model(n_layers=1, left_padding=left), poses, (0.9,))
    assert np.abs(probability.sum(-1) - 1).max() < 1e-12


@pytest.mark.parametrize(
    ("actions", "length", "want"),
    [
        ([2, 1, 1, 2], 4, True),
        ([0, 2, 0, 2], 4, True),
        ([0, 1, 0, 1], 4, False),
        ([2, 1, 1, 2], 2, False),  # it was over before
        ([1, 1, 1, 1], 4, True),
        ([5, 3, 6, 2], 4, False),
    ],
)
def test_looking_back_is_half_a_turn(actions, length, want):
    assert looks_back(np.array([actions]), np.array([length])).tolist() == [want]


def test_stage_writes_tables_figures_and_verdicts(store, experiment_of, stage, poses):
    run(experiment_of(stage))
    numbers = read_metrics(stage.path)
    assert numbers["psychology/identity_error"] < 1e-9
    assert numbers["psychology/distinct_inputs"] == 2 * 4 * len(poses.pose)
    states = pd.read_parquet(stage.path / "tables" / "states.parquet")
    total = states.left + states.right + states.forward + states.non_kinetic
    assert np.abs(total - 1).max() < 1e-9
    assert len(states) == 2 * 2 * 4 * len(poses.pose)
    play = pd.read_parquet(stage.path / "tables" / "play.parquet")
    assert (play.success + play.wrong + play.truncated == 1).all() and len(play) == 8
    result = stage.result()
    assert len(result.claims) == 6 and len(result.checks) == 2
    assert result.claim("set_routine").verdict is not Verdict.CONFIRMED  # three steps of training
    of_reward_to_go = {c.id for c in result.claims if c.about is About.REWARD_TO_GO}
    assert of_reward_to_go == {"diffuse_off_routine", "non_kinetic_mass"}
    assert set(TRUTHS["psychology"]) <= {claim.id for claim in result.claims}
    for name in ("state_map.png", "psychology.png"):
        assert (stage.path / "figures" / name).stat().st_size > 10_000


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"high": 0.8}, "high"),
        ({"threshold": 0.7}, "threshold"),
        ({"episodes": 0}, "episodes"),
        ({"seed": -1}, "seed"),
    ],
)
def test_impossible_values_are_named(stage, change, field):
    wrong = dataclasses.replace(stage, **change)
    assert field in [name for name, _ in (*wrong.check(), *problems(wrong))]


def test_an_environment_without_a_decision_is_refused(stage):
    elsewhere = dataclasses.replace(stage, env=build_group("env/door_key"))
    assert [place for place, _ in elsewhere.missing()] == ["env"]
    assert not list(stage.missing())


def test_the_scripted_policy_reads_what_it_says(env, poses):
    """The instruction's cell of the flattened one-hot is where the test's policy looks for it."""
    first = poses.observations[2][0][0]
    assert one_hot(first)[2, 6].argmax() == BALL
