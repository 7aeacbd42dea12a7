import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from dtx.analysis.core.policies import jensen_shannon
from dtx.analysis.core.recorder import looks_back
from dtx.analysis.core.result import About, Verdict
from dtx.analysis.psychology import Psychology
from dtx.analysis.psychology.claims import Judge
from dtx.analysis.psychology.compute import result_of
from dtx.analysis.psychology.measure import (
    PolicyMeasures,
    divergence_of,
    measure,
    opposed,
    policies,
    states_of,
)
from dtx.analysis.psychology.numbers import blind_routine, decision_squares, numbers_of
from dtx.analysis.psychology.poses import FORWARD, LEFT, RIGHT, contexts, reach
from dtx.analysis.psychology.spec import TRAINED
from dtx.analysis.scorecard.claims import TRUTHS
from dtx.config.compose import build_group
from dtx.config.ranges import problems
from dtx.dt.load import untrained_like
from dtx.dt.rollout import decision_probabilities
from dtx.dt.shuffled_reward_to_go import ShuffledRewardToGo
from dtx.dt.tokens import DECISION_TRANSFORMER
from dtx.env.encoding import one_hot
from dtx.env.memory import BALL
from dtx.report import read_metrics
from dtx.running.runner import run
from tests.analysis.core.test_windows import model


@pytest.fixture(scope="module")
def poses(env):
    return reach(env.decision, 8)


@pytest.fixture
def stage(env, tiny) -> Psychology:
    return Psychology(
        env=env, dt=tiny, checkpoint=None, targets=(0.0, 0.9), low=0.0, high=0.9, threshold=0.1,
        episodes=2, untrained=19, seed=0,
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

    def __call__(self, context):
        cells = context["table"].numpy()[context["observation"].numpy()]  # b t c
        objects = cells.reshape(*cells.shape[:2], 20, 7, 7)[:, :, :11].argmax(2)
        instruction = objects[:, :1, 2, 6]
        seen = np.zeros((*objects.shape[:2], 7, 7, 3), np.uint8)
        seen[..., 0] = objects
        return self.logits(instruction, objects, seen, context["reward_to_go"].numpy())

    def logits(self, instruction, objects, seen, to_go):
        turn = np.where(objects[:, :, 1, 6] == instruction, LEFT, RIGHT)
        turn = np.where(to_go < 0.5, LEFT + RIGHT - turn, turn)
        action = np.where(self.decision.here(seen), turn, FORWARD)
        return torch.nn.functional.one_hot(torch.from_numpy(action), 7) * 40.0


class Walker(Scripted):
    """A policy without a decision: it walks forward whatever it sees."""

    def logits(self, instruction, objects, seen, to_go):
        action = np.full(objects.shape[:2], FORWARD)
        return torch.nn.functional.one_hot(torch.from_numpy(action), 7) * 40.0


class Blind(Scripted):
    """Walks to the square and turns left there, whatever the instruction is."""

    def logits(self, instruction, objects, seen, to_go):
        action = np.where(self.decision.here(seen), LEFT, FORWARD)
        return torch.nn.functional.one_hot(torch.from_numpy(action), 7) * 40.0


def uniform_policy(probability):
    return np.full_like(probability, 1 / probability.shape[-1])


def measured_of(stage, env, poses, probability, back=0.0) -> PolicyMeasures:
    """What was measured of a policy, beside untrained models that are uniform; nobody played."""
    targets, decision = stage.targets, env.decision
    names = decision.layouts
    play = pd.DataFrame(
        [(t, name, back, 16) for t in targets for name in names],
        columns=["target", "layout", "looks_back", "episodes"],
    )
    return PolicyMeasures(
        states=states_of(targets, decision, poses, probability).assign(model=TRAINED),
        divergence=divergence_of(targets, decision, poses, probability).assign(model=TRAINED),
        play=play,
        probability=probability,
        untrained=[uniform_policy(probability)] * stage.untrained,
        poses=poses,
        sum_error=0.0,
        self_divergence=0.0,
        distinct=1,
        reads_it=True,
    )


def verdicts(stage, env, poses, policy, **given) -> dict[str, Verdict]:
    measured = measured_of(stage, env, poses, policies(policy, poses, stage.targets), **given)
    return {claim.id: claim.verdict for claim in Judge(stage, env.decision, measured).claims()}


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
    probability = policies(Scripted(env.decision), poses, stage.targets)
    assert poses.distinct == 4 * len(poses.pose)
    measured = measured_of(stage, env, poses, probability)
    for target in stage.targets:
        squares = decision_squares(stage, measured.divergence, TRAINED, target)
        assert (squares.poses, squares.before_turn, squares.cells) == (1, 1, [(5, 3)])
    numbers = numbers_of(env.decision, poses, probability)
    assert numbers.routine_share.tolist() == [0, 1]
    # It turns once and then walks on, whichever side it faces.
    assert numbers.forward_after_wrong == pytest.approx(1)
    assert numbers.forward_there == pytest.approx(0)
    found = verdicts(stage, env, poses, Scripted(env.decision))
    for name in ("set_routine", "one_decision_square", "decision_cached"):
        assert found[name] is Verdict.CONFIRMED
    # It is as sure at 0 as at .9, so that neither of these is true of it.
    assert found["diffuse_off_routine"] is found["non_kinetic_mass"] is Verdict.NOT_CONFIRMED


@pytest.mark.parametrize("policy", [Walker, Blind])
def test_a_policy_without_a_decision_has_cached_none(env, poses, stage, policy):
    """One that always walks on does so after a wrong turn; a blind one is right in half of the layouts."""
    numbers = numbers_of(env.decision, poses, policies(policy(env.decision), poses, stage.targets))
    assert numbers.forward_after_wrong == pytest.approx(1)
    assert blind_routine(env.decision) == 0.5 >= numbers.routine_share.max()
    found = verdicts(stage, env, poses, policy(env.decision))
    assert found["decision_cached"] is Verdict.NOT_APPLICABLE
    assert not any(verdict.states for verdict in found.values())


def test_looking_back_everywhere_is_no_look_back(env, poses, stage):
    """As a random walk does."""
    for back in (1.0, 0.6, 0.0):
        found = verdicts(stage, env, poses, Walker(env.decision), back=back)
        assert not found["looks_back"].states
    probability = policies(Walker(env.decision), poses, stage.targets)
    measured = measured_of(stage, env, poses, probability)
    play = measured.play
    play.loc[play.layout == env.decision.layouts[0], "looks_back"] = 0.9375
    claims = {claim.id: claim for claim in Judge(stage, env.decision, measured).claims()}
    assert claims["looks_back"].verdict is Verdict.CONFIRMED
    assert "exact binomial, 16 episodes" in claims["looks_back"].evidence


@pytest.mark.parametrize("left", [False, True])
def test_ways_give_the_policies_of_all_poses_on_them(poses, left):
    """Each window computed alone gives the same."""
    network = model(n_layers=1, left_padding=left)
    probability = policies(network, poses, (0.0, 0.9))
    assert not np.isnan(probability).any()
    for here, context in contexts(network, poses, (0.0, 0.9)):
        with torch.no_grad():
            alone = network.last_logits(context).double().softmax(-1).numpy()
        want = alone.reshape(2, 4, len(here), -1)
        assert np.abs(probability[:, :, here] - want).max() < 1e-6
    assert len(poses.ends) < len(poses.pose)


def test_the_planted_model_has_one_decision_square(store, experiment_of, poses, stage, env):
    planted = build_group("dt/planted")
    run(experiment_of(planted))
    result = dataclasses.replace(stage, dt=planted).compute()
    for target in stage.targets:
        squares = decision_squares(stage, result.tables["divergence"], TRAINED, target)
        assert (squares.before_turn, squares.cells) == (1, [(5, 3)])
    assert result.established
    confirmed = {c.id for c in result.claims if c.verdict is Verdict.CONFIRMED}
    assert confirmed == {"set_routine", "one_decision_square", "decision_cached"}
    assert not result.claim("diffuse_off_routine").verdict.states


def test_policies_that_are_none_establish_nothing(env, stage):
    measured = measure(stage, model(n_layers=1), env.decision)
    sound = result_of(stage, env.decision, measured)
    assert all(check.holds for check in sound.checks) and len(sound.claims) == 6
    for broken in ("sum_error", "self_divergence"):
        for value in (1e-3, np.nan):
            changed = dataclasses.replace(measured, **{broken: value})
            result = result_of(stage, env.decision, changed)
            assert not result.established and result.summary.startswith("not established")
            assert not any(claim.verdict.states for claim in result.claims)


def test_policies_at_the_decision_are_the_rollouts(env, poses):
    network = model(n_layers=1)
    probability = policies(network, poses, (0.0, 0.9))
    place = poses.after([FORWARD] * env.decision.step)
    want = decision_probabilities(network, env.decision, [0.0, 0.9])
    assert np.abs(probability[:, :, place] - want).max() < 1e-6


@pytest.mark.parametrize("left", [False, True])
def test_padding_does_not_change_the_shape(poses, left):
    probability = policies(model(n_layers=1, left_padding=left), poses, (0.9,))
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
    assert len(states) == (1 + stage.untrained) * 2 * 4 * len(poses.pose)
    play = pd.read_parquet(stage.path / "tables" / "play.parquet")
    assert (play.success + play.wrong + play.truncated == 1).all() and len(play) == 8
    assert set(play.looks_back_interval) == {"exact binomial, 2 episodes"}
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
        ({"untrained": 3}, "untrained"),
    ],
)
def test_impossible_values_are_named(stage, change, field):
    wrong = dataclasses.replace(stage, **change)
    assert field in [name for name, _ in (*wrong.check(), *problems(wrong))]


def test_an_environment_without_a_decision_is_refused(stage):
    elsewhere = dataclasses.replace(stage, env=build_group("env/door_key"))
    place, problem = next(iter(elsewhere.missing()))
    assert place == "env" and "names no decision" in problem
    assert not list(stage.missing())


def test_the_scripted_policy_reads_what_it_says(env, poses):
    """The instruction's cell of the flattened one-hot is where the test's policy looks for it."""
    first = poses.observations[2][0][0]
    assert one_hot(first)[2, 6].argmax() == BALL


def test_untrained_models_make_no_statement(env, stage):
    stated, claims = 0, 0
    for seed in range(5):
        network = untrained_like(model(n_layers=1), seed)
        result = result_of(stage, env.decision, measure(stage, network, env.decision))
        stated += sum(claim.verdict.states for claim in result.claims)
        claims += len(result.claims)
    assert stated <= 0.05 * claims


@pytest.mark.parametrize("kind", ["clone", "shuffled"])
def test_reward_to_go_does_nothing_where_it_says_nothing(
    env, stage, tiny, experiment_of, store, kind
):
    """What a clone lacks and a model of shuffled returns ignores is not claimed of either."""
    dt = dataclasses.replace(tiny, reward_to_go=False)
    if kind == "shuffled":
        fields = {f.name: getattr(tiny, f.name) for f in dataclasses.fields(tiny) if f.init}
        dt = dataclasses.replace(ShuffledRewardToGo(**fields), steps=150)
    run(experiment_of(dt))
    result = dataclasses.replace(stage, dt=dt).compute()
    for claim in result.claims:
        if claim.about is About.REWARD_TO_GO:
            assert not claim.verdict.states
    if kind == "clone":
        assert result.claim("diffuse_off_routine").evidence == "the model has no reward-to-go"
