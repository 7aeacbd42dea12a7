"""Episodes of a model as a dataset: they are what a rollout plays, at the targets that were given."""

import numpy as np
import pytest
import torch

import dtx
from dtx.config.build import ConfigError
from dtx.config.compose import build_group, compose, experiment
from dtx.dataset.episodes import Outcome
from dtx.dt.history import History
from dtx.dt.played import GREEDY, PlayedEpisodes
from dtx.dt.rollout import rollouts
from dtx.dt.windows import Sampler
from dtx.env.facts import views
from dtx.env.roles import world_of
from dtx.running.plan import group, stages
from dtx.running.runner import run

SMALL = ["env.backend=gymnasium", "dt=planted", "dataset.dt=${dt}", "dataset.episodes=6"]


def played(*overrides: str) -> PlayedEpisodes:
    return build_group("dataset/played", [*SMALL, "dataset.targets=[0,0.9]", *overrides])


@pytest.fixture
def recorded(store, experiment_of):
    stage = played("dataset.facts=true", "dataset.environments=4", "dataset.temperature=3")
    run(experiment_of(stage))
    return stage


def test_episodes_are_those_of_a_rollout(recorded):
    """Two blocks, of four and of two environments: each is a rollout at both targets."""
    episodes, model = recorded.load(), recorded.dt.load()
    row = 0
    for block, count in enumerate((4, 2)):
        seed = int(np.random.SeedSequence([0, block]).generate_state(1)[0])
        both = rollouts(model, recorded.env, [0, 0.9], episodes=count, seed=seed, temperature=3.0)
        for target, one in zip((0, 0.9), both, strict=True):
            part = slice(row, row + count)
            assert (episodes.length[part] == one.length).all()
            assert (episodes.outcome[part] == one.outcome).all()
            assert np.allclose(episodes.returns[part], one.returns)
            assert (episodes.target[part] == np.float32(target)).all()
            first = episodes.observations[episodes.observation[episodes.start[part]]]
            assert (first == one.first_observation).all()
            row += count
    assert row == len(episodes.start) == 12 and (episodes.temperature == 3).all()
    assert (episodes.split == 1).sum() == round(0.05 * 12)


def test_targets_fall_by_rewards(recorded):
    episodes = recorded.load()
    for e in range(len(episodes.start)):
        steps = slice(episodes.start[e], episodes.start[e] + episodes.length[e])
        reward = episodes.reward[steps]
        fallen = episodes.target[e] - np.concatenate([[0], reward.cumsum()[:-1]])
        assert np.allclose(episodes.given[steps], fallen)
    assert (episodes.given != episodes.reward_to_go).any()


def test_facts_are_of_the_worlds_that_were_played(recorded):
    facts, episodes = recorded.load_facts(), recorded.load()
    drawn = views(world_of(recorded.env.make()), facts.states)
    assert (drawn[facts.state] == episodes.observations[episodes.observation]).all()
    plain = played("dataset.environments=4", "dataset.temperature=3")
    assert plain.key != recorded.key


def test_an_interrupted_run_gives_the_same_files(store, experiment_of):
    stage = played("dataset.environments=3")
    run(experiment_of(stage))
    files = store.done(stage)["files"]
    store.invalidate(stage.label)
    work = store.root / ".work" / stage.label
    work.mkdir(parents=True, exist_ok=True)
    for name in ("observation", "action", "reward"):
        (work / f"{name}.raw").write_bytes(b"left by a killed run" * 50)
    run(experiment_of(stage))
    assert store.done(stage)["files"] == files
    assert "steps.arrow" in files and not any(name.endswith(".raw") for name in files)


def test_greedy_episodes_follow_the_target(store, experiment_of):
    stage = played("dataset.greedy=true")
    run(experiment_of(stage))
    episodes = stage.load()
    assert (episodes.temperature == np.float32(GREEDY)).all()
    success = episodes.outcome == Outcome.SUCCESS
    assert success[episodes.target > 0.5].all() and not success[episodes.target == 0].any()
    assert "12 episodes: 6 success, 6 wrong" in stage.summary()
    model = stage.dt.load()
    for start, length in zip(episodes.start, episodes.length, strict=True):
        history = History(model.cfg, 1, stage.env.horizon)
        for step in range(start, start + length):  # the model, asked anew, does what is recorded
            view = episodes.observations[episodes.observation[[step]]]
            history.see(view, episodes.given[[step]])
            with torch.inference_mode():
                logits = model.last_logits(history.context(np.array([0])))
            assert logits.argmax() == episodes.action[step]
            history.act(episodes.action[[step]])


def test_it_is_a_dataset_like_any_other(store, experiment_of):
    stage = played()
    run(experiment_of(stage))
    loaded = dtx.load("dataset", stage.label, store=store)
    assert set(loaded.columns) >= {"target", "observation", "returns"}
    facts = loaded.facts({"key": "instruction == 'key'"})
    assert len(facts.column("key")) == len(loaded.episodes.action)
    windows, cfg = build_group("dt/small", ["dt.windows.context=9"]).windows, stage.dt.load().cfg
    batch = Sampler(loaded.episodes, cfg, windows, split=0).batch(0, 0, 8)
    assert stage.dt.load().packed(batch).shape[1] == 7


def test_the_model_that_plays_is_that_of_the_usual_experiment():
    usual = experiment(compose(["target=dt"]), []).targets["dt"]
    overrides = ["dataset=played", "target=dataset"]
    stage = experiment(compose(overrides), overrides).targets["dataset"]
    assert isinstance(stage, PlayedEpisodes) and group(stage) == "dataset"
    assert stage.dt.label == usual.label
    assert [s.name for s in stages([stage])] == [
        "ppo",
        "rollouts",
        "decision_transformer",
        "played",
    ]


def test_a_model_can_be_trained_on_what_another_played():
    overrides = ["dataset=played", "target=dt"]
    stage = experiment(compose(overrides), overrides).targets["dt"]
    assert stage.dataset.name == "played" and stage.dataset.dt.dataset.name == "rollouts"


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("dataset.targets=[]", "targets"),
        ("dataset.targets=[0.9,0.9]", "one is there twice"),
        ("dataset.greedy=true", None),
        ("dataset.temperature=0", "temperature"),
        ("dataset.validation=0.99", "no episode of 12 is left"),
        ("dataset.episodes=0", "episodes"),
    ],
)
def test_wrong_values_are_told(override, what):
    overrides = [override, *(["dataset.temperature=2"] if what is None else [])]
    with pytest.raises(ConfigError, match=what or "changes no greedy action"):
        played(*overrides)


def test_a_model_of_other_actions_is_told():
    task = "id:MiniGrid-Dynamic-Obstacles-5x5-v0,max_steps:9,backend:auto"
    other = f"{{_target_:dtx.env.minigrid.MiniGrid,{task}}}"
    overrides = ["dataset=played", "target=dataset", f"dataset.env={other}"]
    with pytest.raises(ConfigError, match=r"dataset.dt: the model has 7 actions, but .* has 3"):
        experiment(compose(overrides), overrides)
