import dataclasses

import numpy as np
import pytest

from dtx.config import ranges
from dtx.config.compose import build_group
from dtx.dataset.episodes import Outcome
from dtx.dataset.rollouts import Rollouts, Share
from dtx.errors import UserError
from dtx.running.runner import run
from tests.agents import Constant

RANDOM = Constant(logits=(0.5, 0.5, 1.5, 0, 0, 0, 0))


@pytest.fixture(scope="module")
def env():
    return build_group("env/memory")


def stage(env, **changes) -> Rollouts:
    values = {
        "env": env,
        "agent": RANDOM,
        "episodes": 100,
        "mixture": (Share(temperature=1, share=0.3), Share(temperature=5, share=0.7)),
        "environments": 16,
        "validation": 0.1,
        "seed": 0,
        "facts": False,
    }
    return Rollouts(**{**values, **changes})


def test_mixture_outcomes_and_rewards(store, experiment_of, env):
    dataset = stage(env)
    run(experiment_of(dataset))
    episodes = dataset.load()
    assert (episodes.temperature == 1).sum() == 30 and (episodes.temperature == 5).sum() == 70
    assert (episodes.split == 1).sum() == 10
    worth = np.where(
        episodes.outcome == Outcome.SUCCESS, 1 - 0.9 * episodes.length / env.horizon, 0
    )
    assert episodes.returns == pytest.approx(worth, abs=1e-6)
    assert (episodes.length[episodes.outcome == Outcome.TRUNCATED] == env.horizon).all()
    assert (episodes.length[episodes.outcome != Outcome.TRUNCATED] <= env.horizon).all()
    assert len(np.unique(episodes.outcome)) == 3
    # Every episode begins at the fixed start, from where instruction and both objects are in view.
    assert len(np.unique(episodes.observation[episodes.start])) == 4


def test_the_number_of_environments_does_not_favour_short_episodes(store, experiment_of, env):
    """With as many environments as episodes each plays one; with few, the mean length must be alike."""
    many, few = (
        stage(env, episodes=600, environments=600),
        stage(env, episodes=600, environments=40, seed=1),
    )
    run(experiment_of(many, few))
    a, b = (x.load().length.astype(float) for x in (many, few))
    error = np.sqrt(a.var() / len(a) + b.var() / len(b))
    assert abs(a.mean() - b.mean()) < 4 * error


def test_same_seed_same_files_other_seed_other_files(store, experiment_of, env):
    first = stage(env)
    run(experiment_of(first))
    files = store.done(first)["files"]
    store.invalidate(first.label)
    run(experiment_of(first))
    assert store.done(first)["files"] == files
    other = stage(env, seed=1)
    run(experiment_of(other))
    assert store.done(other)["files"]["steps.arrow"] != files["steps.arrow"]


def test_a_truncated_table_is_a_clear_error(store, experiment_of, env):
    dataset = stage(env)
    run(experiment_of(dataset))
    path = store.folder(dataset) / "steps.arrow"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"steps\.arrow has \d+ bytes instead of \d+"):
        dataset.load()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"mixture": ()}, "mixture"),
        ({"mixture": (Share(temperature=1, share=0.5),)}, "mixture"),
        ({"episodes": 0}, "episodes"),
        ({"environments": 0}, "environments"),
        ({"validation": 1.0}, "validation"),
    ],
)
def test_impossible_values_are_named(env, changes, field):
    broken = stage(env, **changes)
    # As the builder does: a check may take numbers for possible ones.
    problems = list(ranges.problems(broken)) or list(broken.check())
    assert [name for name, _ in problems] == [field]


@pytest.mark.parametrize("temperature", [0, -1])
def test_a_temperature_of_zero_or_below_is_refused(temperature):
    assert dict(ranges.problems(Share(temperature=temperature, share=1)))["temperature"]


def test_quotas_add_up():
    shares = tuple(Share(temperature=1, share=1 / 3) for _ in range(3))
    rollouts = dataclasses.replace(stage(None), mixture=shares, episodes=100)
    assert sum(rollouts.quotas()) == 100 and max(rollouts.quotas()) - min(rollouts.quotas()) <= 1
