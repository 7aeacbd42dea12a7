import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from dtx.agent.imported import Imported
from dtx.analysis.core.result import About, Verdict
from dtx.analysis.teacher import Teacher
from dtx.analysis.teacher.compute import by_episode, compute, divergence
from dtx.analysis.teacher.policies import (
    held_out,
    log_softmax,
    model_policy,
    n_gram,
    teacher_logits,
)
from dtx.analysis.teacher.spec import DT, N_GRAM
from dtx.config.ranges import problems
from dtx.dt.spec import Balance, Padding, Windows
from dtx.dt.windows import Drawn, Sampler
from dtx.exchange.published.source import digest_of
from dtx.report import read_metrics
from dtx.running.runner import run
from tests.agents import ConstantAgent
from tests.analysis.core.test_windows import model
from tests.dt.toy import episodes as random_episodes
from tests.published import RAW, agent, write


@pytest.fixture
def stage(rollouts, tiny) -> Teacher:
    return Teacher(
        dataset=rollouts, agent=rollouts.agent, dt=tiny, checkpoint=None, episodes=20,
        temperatures=(1.0, 5.0), targets=(0.0, 0.9), n_gram=2, seed=0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def episodes():
    return random_episodes(n=60, horizon=14)


def test_a_model_does_not_differ_from_itself():
    p = log_softmax(np.random.default_rng(0).normal(size=(50, 7)))
    assert np.abs(divergence(p, p)).max() == 0
    q = log_softmax(np.zeros((50, 7)))
    entropy = -(np.exp(p) * p).sum(1)
    assert divergence(p, q) == pytest.approx(np.log(7) - entropy)


def test_held_out_episodes_are_the_recorded_ones(episodes):
    replay = held_out(episodes, 8, 0)
    assert len(replay.length) == 8 and replay.real.sum() == replay.length.sum()
    validation = np.flatnonzero(episodes.split == 1)
    recorded = {
        tuple(episodes.action[episodes.start[e] :][: episodes.length[e]]) for e in validation
    }
    for i, length in enumerate(replay.length):
        assert tuple(replay.action[i, :length]) in recorded


@pytest.mark.parametrize("left", [False, True])
def test_policy_along_an_episode_is_the_full_forward_pass(episodes, left):
    """Acting step by step and one pass over whole windows are two ways to the same policy."""
    network = model(left_padding=left)
    replay = held_out(episodes, 6, 0)
    policy = model_policy(network, replay, replay.reward_to_go)
    where = {True: Padding.left, False: Padding.right}[left]
    windows = Windows(
        context=9,
        padding=where,
        first_share=1,
        end_share=0,
        whole_share=1,
        cut=None,
        balance=Balance.none,
    )
    sampler = Sampler(episodes, network.cfg, windows, split=1)
    chosen = np.sort(np.random.default_rng(0).permutation(np.flatnonzero(episodes.split == 1))[:6])
    last = np.minimum(episodes.length[chosen], 9)
    drawn = Drawn(episodes.start[chosen], np.zeros(6, np.int64), last)
    context, _, real = sampler.context(drawn)
    with torch.no_grad():
        whole = log_softmax(network(context).double().numpy())
    starts = np.cumsum(replay.length) - replay.length
    for i, length in enumerate(last):
        # Left-padded windows have other padding at every step: only their last step is comparable.
        steps = [length - 1] if left else range(length)
        mine = whole[i][real[i].numpy()]
        for step in steps:
            assert np.abs(policy[starts[i] + step] - mine[step]).max() < 1e-5


def test_teacher_is_asked_at_every_step(episodes):
    class Counting(ConstantAgent):
        def step(self, observations, memory):
            logits, value, memory = super().step(observations, memory)
            return logits * memory, value, memory

    replay = held_out(episodes, 5, 0)
    logits = teacher_logits(Counting(torch.tensor([1.0, 2.0])), replay)
    want = np.concatenate([np.arange(1, n + 1) for n in replay.length])
    assert (logits[:, 0] == want).all() and (logits[:, 1] == 2 * want).all()


def test_n_gram_against_a_loop(episodes):
    replay = held_out(episodes, 5, 0)
    policy = np.exp(n_gram(episodes, replay, 1, 3))
    assert policy.sum(1) == pytest.approx(1)
    unigram, bigram = np.zeros(3), np.zeros((4, 3))
    for e in np.flatnonzero(episodes.split == 0):
        before = 3
        for action in episodes.action[episodes.start[e] :][: episodes.length[e]]:
            unigram[action] += 1
            bigram[before, action] += 1
            before = action
    base = (unigram + 1 / 3) / (unigram.sum() + 1)
    row = 0
    for actions, length in zip(replay.action, replay.length, strict=True):
        before = 3
        for action in actions[:length]:
            mine = bigram[before]
            assert policy[row] == pytest.approx((mine + base) / (mine.sum() + 1))
            before, row = action, row + 1


def test_n_gram_finds_a_pattern_that_one_action_cannot_show(episodes):
    """The action repeats the one before the last: two actions back are needed."""
    steps = np.arange(len(episodes.action))
    episodes = dataclasses.replace(episodes, action=((steps // 2) % 2).astype(np.uint8))
    replay = held_out(episodes, 10, 0)
    taken = replay.action[replay.real]
    nll = [
        -n_gram(episodes, replay, order, 2)[np.arange(len(taken)), taken].mean() for order in (1, 2)
    ]
    assert nll[1] < 0.2 < 0.5 < nll[0]


def test_interval_is_over_episodes():
    length = np.array([1, 99])
    values = np.concatenate([[1.0], np.zeros(99)])
    mean = by_episode(values, length)
    assert mean.value == pytest.approx(0.01) and mean.n == 2
    assert mean.low < 0 and mean.high > 1  # two observations, not a hundred


def test_stage_compares_with_controls(store, experiment_of, stage):
    run(experiment_of(stage))
    numbers = read_metrics(stage.path)
    assert numbers["teacher/identity_error"] == 0
    table = pd.read_parquet(stage.path / "tables" / "comparison.parquet")
    itself = table[(table.model == "teacher, T=1") & (table.temperature == 1)].iloc[0]
    assert itself.kl == 0 and itself.agreement == 1
    # The teacher is the same everywhere, so the n-gram model is close to it.
    gram = table[(table.model == N_GRAM) & (table.temperature == 1)].iloc[0]
    assert gram.kl < 0.2 and gram.agreement > 0.9
    assert set(table[table.model == DT].asked_for) == {"own", "0", "0.9"}
    own = table[table.asked_for == "own"]
    assert (table.kl >= 0).all() and (table.kl_low <= table.kl + 1e-12).all()
    result = stage.result()
    (control,) = result.controls
    assert control.against_interval[0] < control.against < control.against_interval[1]
    assert result.established == control.holds  # three steps of training are not many
    assert not result.claim("teacher_and_model_agree").verdict.states
    assert result.claim("lower_reward_to_go_simulates_hotter_teacher").about is About.REWARD_TO_GO
    assert (own.n == own.episodes).all() and (own.distinct_episodes <= own.episodes).all()
    assert own.interval.str.contains("of a ratio over").all()
    assert numbers["teacher/distinct_inputs"] <= numbers["teacher/states"]
    assert (stage.path / "figures" / "teacher.png").stat().st_size > 10_000


def test_a_policy_that_is_no_number_establishes_nothing(stage, episodes):
    """The divergence of a policy from itself is then no number, so that the check was not measured."""
    teacher = ConstantAgent(torch.tensor([1.0, 2.0, torch.nan]))
    result = compute(stage, model(n_actions=3), teacher, episodes)
    assert not result.established
    assert {claim.verdict for claim in result.claims} == {Verdict.NOT_ESTABLISHED}
    assert "check" in result.summary


@pytest.mark.parametrize("kind", ["sb3", "imported"])
def test_teachers_of_others(store, experiment_of, stage, env, tmp_path, kind):
    """An agent of Stable-Baselines3 with a memory, and a published one."""
    if kind == "sb3":
        pytest.importorskip("sb3_contrib")
        from tests.agent.test_sb3 import saved, sb3_contrib
        from tests.agent.test_sb3 import stage as of_file

        small = {"lstm_hidden_size": 6}
        file = saved(tmp_path, sb3_contrib.RecurrentPPO, "MlpLstmPolicy", policy_kwargs=small)[1]
        teacher = of_file(file, env=["env=memory"])
    else:
        file = write(tmp_path / "a.pt", *agent(), RAW)
        teacher = Imported(file=file, digest=digest_of(file))
    stage = dataclasses.replace(stage, agent=teacher, episodes=5)
    run(experiment_of(stage))
    numbers = read_metrics(stage.path)
    assert numbers["teacher/identity_error"] == 0
    table = pd.read_parquet(stage.path / "tables" / "comparison.parquet")
    replay = held_out(stage.dataset.load(), 5, 0)
    logits = teacher_logits(teacher.load(), replay)
    assert len(logits) == table.states.iloc[0] and logits.std(0).max() > 0  # it sees its states
    own = table[(table.model == "teacher, T=1") & (table.temperature == 1)].iloc[0]
    taken = log_softmax(logits)[np.arange(len(logits)), replay.action[replay.real]]
    assert own.kl == 0 and own.nll == pytest.approx(-taken.mean())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"temperatures": (0.0,)}, "temperatures[0]"),
        ({"temperatures": ()}, "temperatures"),
        ({"checkpoint": -1}, "checkpoint"),
        ({"n_gram": 0}, "n_gram"),
        ({"episodes": 0}, "episodes"),
    ],
)
def test_impossible_values_are_named(stage, change, field):
    assert field in [name for name, _ in problems(dataclasses.replace(stage, **change))]
