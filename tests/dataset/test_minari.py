"""Minari in and out, with datasets that Minari itself wrote."""

import dataclasses
import json

import gymnasium
import minigrid  # noqa: F401  registers its tasks
import numpy as np
import pytest

import dtx
from dtx.cli import main
from dtx.config.compose import ConfigError, build_group, compose, experiment
from dtx.dataset.episodes import Episodes, Outcome
from dtx.dataset.minari import files
from dtx.dataset.minari.ids import choice_of
from dtx.dataset.minari.read import opened
from dtx.dataset.minari.write import spec_of, write
from dtx.dataset.rollouts import Rollouts, Share
from dtx.errors import UserError
from dtx.running.runner import run
from tests.agents import Constant

minari = pytest.importorskip("minari")
pytest.importorskip("h5py")

from gymnasium import spaces  # noqa: E402
from minari.data_collector import EpisodeBuffer  # noqa: E402

RANDOM = Constant(logits=(0.5, 0.5, 1.5, 0, 0, 0, 0))
FOUR_ROOMS = ["env=minigrid", "env.id=MiniGrid-FourRooms-v0"]
IMAGE = spaces.Box(0, 255, (7, 7, 3), np.uint8)
DICTIONARY = spaces.Dict(
    {"direction": spaces.Discrete(4), "image": IMAGE, "mission": spaces.Text(30)}
)


@pytest.fixture(autouse=True)
def no_datasets_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "home"))


def demonstrations(store, experiment_of, episodes=24) -> Rollouts:
    shares = (Share(temperature=0.5, share=0.3), Share(temperature=5, share=0.7))
    stage = Rollouts(
        env=build_group("env/memory"),
        agent=RANDOM,
        episodes=episodes,
        mixture=shares,
        environments=8,
        validation=0.2,
        seed=3,
        facts=False,
    )
    run(experiment_of(stage))
    return stage


def minari_stage(name, root, *overrides):
    return build_group("dataset/minari", [f"dataset.id={name}", f"dataset.root={root}", *overrides])


def walk(env, seed, steps, mission=None):
    """An episode of a random walk as Minari's collector records it."""
    rng = np.random.default_rng(seed)
    seen, _ = env.reset(seed=seed)
    columns = {"o": [seen], "a": [], "r": [], "d": [], "t": []}
    for _ in range(steps):
        action = int(rng.integers(7))
        seen, reward, done, cut, _ = env.step(action)
        for name, value in zip("oardt", (seen, action, reward, done, cut), strict=True):
            columns[name].append(value)
        if done or cut:
            break
    observations = {
        "image": np.stack([o["image"] for o in columns["o"]]),
        "direction": np.array([o["direction"] for o in columns["o"]]),
        "mission": [mission or o["mission"] for o in columns["o"]],
    }
    return EpisodeBuffer(
        seed=seed,
        observations=observations,
        actions=np.array(columns["a"]),
        rewards=np.array(columns["r"], np.float64),
        terminations=np.array(columns["d"]),
        truncations=np.array(columns["t"]),
        infos={"n": np.arange(len(columns["o"]))},
    )


def foreign(name, buffers, observation_space=DICTIONARY, action_space=None, **more):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return minari.create_dataset_from_buffers(
            name,
            buffers,
            observation_space=observation_space,
            action_space=action_space or spaces.Discrete(7),
            author="somebody",
            **more,
        )


@pytest.fixture
def four_rooms():
    env = gymnasium.make("MiniGrid-FourRooms-v0", max_steps=9, disable_env_checker=True)
    lucky = walk(env, 7, 3)
    # A success, so that a reward that is no float32 has to come back.
    lucky.rewards[-1], lucky.terminations[-1] = 1 - 0.9 * 3 / 100, True
    spec = gymnasium.spec("MiniGrid-FourRooms-v0")
    buffers = [walk(env, 1, 9), lucky, walk(env, 2, 4, "another mission")]
    return foreign("rooms/walks-v0", buffers, env=spec, eval_env=spec)


def columns(stage):
    found = {f.name: getattr(stage.load(), f.name) for f in dataclasses.fields(Episodes)}
    return {name: column for name, column in found.items() if column is not None}


def same(one, two):
    """Two datasets of Minari's hold the same episodes, to the bit and the type."""
    assert one.observation_space == two.observation_space
    assert one.action_space == two.action_space
    assert (one.env_spec and one.env_spec.to_json()) == (two.env_spec and two.env_spec.to_json())
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        for name in ("actions", "rewards", "terminations", "truncations"):
            x, y = getattr(a, name), getattr(b, name)
            assert x.dtype == y.dtype and (x == y).all(), name
        if isinstance(a.observations, dict):
            assert a.observations.keys() == b.observations.keys()
            for key, values in a.observations.items():
                assert (np.asarray(values) == np.asarray(b.observations[key])).all(), key
        else:
            assert a.observations.dtype == b.observations.dtype
            assert (a.observations == b.observations).all()


def test_our_demonstrations_come_back_bit_for_bit(store, experiment_of, tmp_path, capsys):
    ours = demonstrations(store, experiment_of)
    command = ["export", ours.label, str(tmp_path / "sets"), "--store", str(store.root)]
    assert main([*command, "--as", "dtx/test/walks-v3"]) == 0
    assert "24 episodes" in capsys.readouterr().out
    back = minari_stage("dtx/test/walks-v3", tmp_path / "sets")
    run(experiment_of(back))
    before, after = columns(ours), columns(back)
    for name, column in before.items():
        assert column.dtype == after[name].dtype and (column == after[name]).all(), name
    assert (ours.load().reward_to_go == back.load().reward_to_go).all()
    # ... and once more: Minari -> dtx -> Minari
    again, _ = write(dtx.load("dataset", back.label, store=store), "dtx/again-v0", None, "me")
    first = opened("dtx/test/walks-v3", tmp_path / "sets", False)
    same(first, opened("dtx/again-v0", None, False))
    assert json.loads((again / "data" / "metadata.json").read_text())["author"] == ["me"]


def test_what_minari_shows_of_our_demonstrations(store, experiment_of, tmp_path):
    ours = demonstrations(store, experiment_of)
    write(dtx.load("dataset", ours.label, store=store), "dtx/shown-v0", None, "dtx")
    dataset, episodes = minari.load_dataset("dtx/shown-v0"), ours.load()
    assert dataset.total_episodes == 24 and dataset.total_steps == len(episodes.action)
    env = dataset.recover_environment()
    assert env.observation_space == dataset.observation_space == IMAGE
    assert env.action_space == dataset.action_space
    assert env.spec.id == "dtx/MemoryS7FixedStart-v0" and env.spec.max_episode_steps == 50
    seen, _ = env.reset(seed=0)
    assert seen.shape == (7, 7, 3)
    for i, episode in enumerate(dataset):
        start, length = int(episodes.start[i]), int(episodes.length[i])
        assert episode.observations.shape == (length + 1, 7, 7, 3)
        assert (episode.actions == episodes.action[start : start + length]).all()
        assert episode.rewards.sum() == pytest.approx(float(episodes.returns[i]))
        assert episode.terminations[-1] != episode.truncations[-1]
        assert episode.terminations[-1] == (episodes.outcome[i] != Outcome.TRUNCATED)
        assert not (episode.terminations[:-1] | episode.truncations[:-1]).any()
    (known,) = dataset.storage.get_episode_metadata([5])
    assert known["dtx_temperature"] == episodes.temperature[5]
    told = dataset.storage.metadata
    assert told["dtx"]["stage"] == ours.label and told["dtx"]["config"]["episodes"] == 24
    assert "stands twice" in told["dtx"]["final_observation"]


def test_a_dataset_of_others_comes_in_and_goes_out_the_same(store, experiment_of, four_rooms):
    stage = build_group("dataset/minari", [*FOUR_ROOMS, "dataset.id=rooms/walks-v0"])
    run(experiment_of(stage))
    episodes = stage.load()
    assert episodes.length.tolist() == [len(e.actions) for e in four_rooms] == [9, 3, 4]
    assert episodes.outcome.tolist() == [Outcome.TRUNCATED, Outcome.SUCCESS, Outcome.TRUNCATED]
    seen = episodes.observations[episodes.observation[9:12]]
    assert (seen == four_rooms[1].observations["image"][:-1]).all()
    assert episodes.returns[1] == np.float32(0.973)
    assert "recorded in" not in stage.summary() and "digest" in stage.summary()
    write(dtx.load("dataset", stage.label, store=store), "rooms/again-v0", None, "me")
    back = minari.load_dataset("rooms/again-v0")
    same(four_rooms, back)
    seeds = [m["seed"] for m in back.storage.get_episode_metadata(range(3))]
    assert seeds == [1, 7, 2]
    assert back[1].rewards[-1] == 0.973  # float64 again


@pytest.mark.parametrize(
    ("types", "kept"),
    [
        (
            (np.int64, np.float64, np.int64),
            np.float64,
        ),  # MiniGrid gives the whole number 0 without success
        ((np.int64, np.float32, np.float32), np.float64),
        ((np.float32, np.float32, np.float32), np.float32),
        ((np.float16, np.float64, np.int8), np.float64),
    ],
)
def test_rewards_of_several_types_keep_their_values(store, experiment_of, types, kept):
    env = gymnasium.make("MiniGrid-FourRooms-v0", max_steps=9, disable_env_checker=True)
    buffers = [walk(env, seed, 4) for seed in (1, 7, 2)]
    buffers[1].rewards[-1], buffers[1].terminations[-1] = 0.75, True
    buffers = [
        dataclasses.replace(buffer, rewards=buffer.rewards.astype(kind))
        for buffer, kind in zip(buffers, types, strict=True)
    ]
    spec = gymnasium.spec("MiniGrid-FourRooms-v0")
    foreign("rooms/mixed-v0", buffers, env=spec, eval_env=spec)
    stage = build_group("dataset/minari", [*FOUR_ROOMS, "dataset.id=rooms/mixed-v0"])
    run(experiment_of(stage))
    write(dtx.load("dataset", stage.label, store=store), "rooms/mixed-again-v0", None, "me")
    for episode, buffer in zip(minari.load_dataset("rooms/mixed-again-v0"), buffers, strict=True):
        assert episode.rewards.dtype == kept and (episode.rewards == buffer.rewards).all()


def test_a_decision_transformer_trains_from_it_by_one_config(store, four_rooms, tmp_path, capsys):
    command = [
        "dataset=minari",
        "dataset.id=rooms/walks-v0",
        *FOUR_ROOMS,
        "dataset.validation=0.34",
        "target=dt",
        "dt.model.n_timesteps=100",
        "dt=small",
        "dt.steps=3",
        "dt.optimiser.warm_up=1",
        "dt.model.d_model=16",
        "dt.model.d_mlp=16",
        "dt.model.n_heads=2",
        "dt.validation_windows=8",
        "dt.batch_size=8",
        "dt.kept_checkpoints=1",
        f"store.path={store.root}",
        "tracking.enabled=false",
    ]
    stages = experiment(compose(command)).targets["dt"]
    assert set(stages.inputs()) == {"dataset"} and not stages.inputs()["dataset"].inputs()
    assert main(["plan", *command]) == 0
    out = capsys.readouterr().out
    assert "minari" in out and "ppo" not in out
    assert main(["run", *command]) == 0
    assert stages.load() is not None


def test_another_environment_is_told(store, experiment_of, four_rooms):
    stage = build_group("dataset/minari", ["dataset.id=rooms/walks-v0"])
    run(experiment_of(stage))
    assert "(env=minigrid env.id=MiniGrid-FourRooms-v0)" in stage.summary()
    assert choice_of("dtx/MemoryS9FixedStart-v0") == "env=memory env.size=9"
    assert choice_of("MiniGrid-Dynamic-Obstacles-Random-6x6-v0").endswith("env.random_start=true")


def test_the_digest_names_the_episodes(store, experiment_of, four_rooms):
    stage = build_group("dataset/minari", ["dataset.id=rooms/walks-v0"])
    run(experiment_of(stage))
    digest = json.loads((stage.path / "minari.json").read_text())["digest"]
    right = build_group("dataset/minari", ["dataset.id=rooms/walks-v0", f"dataset.digest={digest}"])
    run(experiment_of(right))
    with pytest.raises(UserError, match="not the expected dataset"):
        run(experiment_of(dataclasses.replace(right, digest="0" * 64)))


@pytest.mark.parametrize(
    ("observation_space", "action_space", "images", "message"),
    [
        (
            spaces.Box(0, 255, (64, 64, 3), np.uint8),
            None,
            (64, 64, 3),
            r"are \(64, 64, 3\), not MiniGrid's",
        ),
        (IMAGE, spaces.Box(-1, 1, (2,)), (7, 7, 3), "its actions are Box"),
        (IMAGE, spaces.Discrete(3), (7, 7, 3), "has 3 actions, but env=.* has 7"),
        (
            spaces.Box(0, 1, (7, 7, 3)),
            None,
            (7, 7, 3),
            "episode 0: an observation is not 7 x 7 x 3",
        ),
        (IMAGE, None, (7, 7, 3), "episode 0: an observation holds an index beyond"),
    ],
)
def test_what_cannot_be_mapped_is_refused(
    store, experiment_of, observation_space, action_space, images, message
):
    space = action_space or spaces.Discrete(7)
    seen = np.full((3, *images), 77 if observation_space is IMAGE else 0.5, observation_space.dtype)
    buffer = EpisodeBuffer(
        observations=seen,
        actions=np.stack([space.sample(), space.sample()]),
        rewards=np.zeros(2),
        terminations=np.array([False, True]),
        truncations=np.zeros(2, bool),
        infos={},
    )
    foreign("odd/one-v0", [buffer], observation_space, space, jpeg_encoding=False)
    with pytest.raises(UserError, match=message):
        run(experiment_of(build_group("dataset/minari", ["dataset.id=odd/one-v0"])))


def test_a_missing_dataset_and_a_taken_name_are_one_line(store, experiment_of, four_rooms):
    stage = build_group("dataset/minari", ["dataset.id=no/such-v1"])
    with pytest.raises(UserError, match=r"no no/such-v1 in .*dataset.download=true"):
        run(experiment_of(stage))
    with pytest.raises(ConfigError, match="is not a Minari id"):
        build_group("dataset/minari", ["dataset.id=walks"])
    stage = build_group("dataset/minari", ["dataset.id=rooms/walks-v0"])
    run(experiment_of(stage))
    loaded = dtx.load("dataset", stage.label, store=store)
    with pytest.raises(UserError, match=r"give another version \(--as rooms/walks-v1\)"):
        write(loaded, "rooms/walks-v0", None, "me")
    with pytest.raises(UserError, match="--as 'walks' is not a Minari id"):
        write(loaded, "walks", None, "me")


@pytest.mark.parametrize("option", ["memory", "door_key", "dynamic_obstacles"])
def test_the_spec_makes_the_environment_without_our_configs(option):
    env = build_group(f"env/{option}")
    made = gymnasium.make(spec_of(env))
    assert made.observation_space == IMAGE and made.action_space.n >= env.n_actions
    seen, _ = made.reset(seed=0)
    assert seen.shape == (7, 7, 3) and made.spec.max_episode_steps == env.horizon
    made.close()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("declared", "is declared as .* but the file has only"),
        ("missing", "Minari cannot read it: .*actions"),
        ("texts", "episode 1: actions are"),
        ("no_episode", "Minari cannot read it"),
        ("not_a_group", "Minari cannot read it"),
        ("cut", "is damaged|cannot be read|cannot open it"),
    ],
)
def test_a_damaged_or_inflated_file_is_one_line(
    store, experiment_of, tmp_path, four_rooms, spoil, message
):
    import h5py

    stage = build_group("dataset/minari", ["dataset.id=rooms/walks-v0"])
    (path,) = tmp_path.rglob("main_data.hdf5")
    if spoil == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    else:
        with h5py.File(path, "r+") as file:
            episode = file["episode_1"]
            del episode["actions"]
            if spoil == "declared":  # chunks that were never written take no space
                episode.create_dataset("actions", (10**12,), np.int64, chunks=(10**6,))
            elif spoil == "texts":
                episode["actions"] = np.array([b"left"] * 3)
            elif spoil == "no_episode":
                del file["episode_1"]
            elif spoil == "not_a_group":
                del file["episode_1"]
                file["episode_1"] = np.zeros(3)
    with pytest.raises(UserError, match=message):
        run(experiment_of(stage))


def test_a_packed_table_that_inflates_is_not_unpacked(monkeypatch):
    table = np.zeros((1000, 7, 7, 3), np.uint8)
    assert (files.unpacked(files.packed(table)) == table).all()
    monkeypatch.setattr(files, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="has more than 1,000 bytes"):
        files.unpacked(files.packed(table))
