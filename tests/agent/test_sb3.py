"""Teachers from Stable-Baselines3: real ones, trained here for a few seconds."""

import dataclasses
import json
import shutil
import zipfile

import gymnasium
import numpy as np
import pytest
import torch

from dtx.agent.sb3.observation import Observation
from dtx.agent.sb3.policy import convert, load, read
from dtx.agent.sb3.spaces import OneHot
from dtx.config.compose import build_group, compose, experiment
from dtx.dataset.rollouts import Rollouts, Share
from dtx.errors import UserError
from dtx.running.runner import run
from dtx.store.checksums import checksum

stable_baselines3 = pytest.importorskip("stable_baselines3")
sb3_contrib = pytest.importorskip("sb3_contrib")

from gymnasium import spaces  # noqa: E402
from minigrid.wrappers import ImgObsWrapper  # noqa: E402
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor  # noqa: E402

ROOM = ["env=minigrid", "env.id=MiniGrid-Empty-5x5-v0", "env.max_steps=20"]


def make(wrapper):
    made = gymnasium.make("MiniGrid-Empty-5x5-v0", max_steps=20, disable_env_checker=True)
    return wrapper(made)


class Indices(gymnasium.ObservationWrapper):
    def __init__(self, env):
        super().__init__(env)
        self.observation_space = spaces.Box(0, 10, (147,), np.uint8)

    def observation(self, observation):
        return observation["image"].ravel()


class InDictionary(gymnasium.ObservationWrapper):
    def __init__(self, env):
        super().__init__(env)
        self.observation_space = spaces.Dict({"image": env.observation_space})

    def observation(self, observation):
        return {"image": observation}


class Own(BaseFeaturesExtractor):
    """A features extractor of the user's own, as MiniGrid's tutorial has one."""

    def __init__(self, space):
        super().__init__(space, 5)
        self.linear = torch.nn.Linear(980, 5)

    def forward(self, seen):
        return torch.tanh(self.linear(seen))


def saved(folder, kind=None, policy="MlpPolicy", wrapper=OneHot, steps=0, **more):
    """A model of Stable-Baselines3, and its file."""
    from stable_baselines3.common.vec_env import DummyVecEnv

    kind = kind or stable_baselines3.PPO
    worlds = DummyVecEnv([lambda: make(wrapper)] * 8)
    settings = {"n_steps": 32, "batch_size": 64, "learning_rate": 3e-3, "seed": 0, "device": "cpu"}
    model = kind(policy, worlds, **{**settings, **more})
    if steps:
        model.learn(steps)
    model.save(folder / "teacher.zip")
    return model, folder / "teacher.zip"


def stage(file, *overrides, env=ROOM):
    given = [f"agent.digest={checksum(file)}", f"agent.file={file}"]
    return build_group("agent/sb3", [*env, *given, *overrides])


def views(n=30):
    """Observations of a random walk, (n, 7, 7, 3)."""
    env, rng, seen = make(ImgObsWrapper), np.random.default_rng(0), []
    observation, _ = env.reset(seed=1)
    for _ in range(n):
        seen.append(observation)
        observation, *_ = env.step(int(rng.integers(3)))
    return np.stack(seen)


def shown(wrapper, images):
    """The same as the policy's own wrapper shows them."""
    env = make(wrapper)
    while not isinstance(env, (OneHot, Indices)):
        if isinstance(env, ImgObsWrapper):
            return images
        env = env.env
    return np.stack([env.observation({"image": image}) for image in images])


@pytest.mark.parametrize(
    ("observation", "wrapper", "more"),
    [
        ("one_hot", OneHot, {}),
        ("indices", Indices, {"policy_kwargs": {"net_arch": [8], "activation_fn": torch.nn.ReLU}}),
        ("image", ImgObsWrapper, {"policy_kwargs": {"net_arch": {"pi": [8], "vf": [4, 4]}}}),
        ("dict", lambda env: InDictionary(OneHot(env)), {"policy": "MultiInputPolicy"}),
    ],
)
def test_logits_and_values_are_those_of_stable_baselines3(
    store, experiment_of, tmp_path, observation, wrapper, more
):
    model, file = saved(tmp_path, wrapper=wrapper, **more)
    teacher = stage(file, f"agent.observation={observation}")
    run(experiment_of(teacher))
    images = views()
    own = shown(wrapper, images)
    given, _ = model.policy.obs_to_tensor({"image": own} if observation == "dict" else own)
    agent = teacher.load()
    logits, values, memory = agent.step(torch.from_numpy(images), agent.initial_memory(len(images)))
    with torch.no_grad():
        assert torch.equal(logits, model.policy.get_distribution(given).distribution.logits)
        assert torch.equal(values, model.policy.predict_values(given).squeeze(1))
    assert memory.shape == (30, 0) and logits.std() > 0
    assert "PPO" in teacher.summary() and observation in teacher.summary()


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"n_lstm_layers": 2},
        {"enable_critic_lstm": False},
        {"enable_critic_lstm": False, "shared_lstm": True},
    ],
)
def test_a_recurrent_policy_remembers_as_its_own_library_does(store, experiment_of, tmp_path, more):
    kind, settings = sb3_contrib.RecurrentPPO, {"lstm_hidden_size": 6, **more}
    model, file = saved(tmp_path, kind, "MlpLstmPolicy", policy_kwargs=settings)
    teacher = stage(file)
    run(experiment_of(teacher))
    agent, images = teacher.load(), views(6)
    memory, state, begin = agent.initial_memory(2), None, np.ones(2, bool)
    for image in images:
        pair = np.stack([image, images[0]])
        logits, _, memory = agent.step(torch.from_numpy(pair), memory)
        actions, state = model.predict(shown(OneHot, pair), state, begin, deterministic=True)
        begin = np.zeros(2, bool)
        assert (logits.argmax(1).numpy() == actions).all()
        layers = settings.get("n_lstm_layers", 1)
        ours = memory.view(2, 4, layers, 6)[:, :2].permute(1, 2, 0, 3)
        assert torch.allclose(ours, torch.from_numpy(np.stack(state)), atol=1e-6)
    assert (memory[0] != memory[1]).any()


@pytest.mark.parametrize("recurrent", [False, True])
def test_a_trained_teacher_records_and_a_decision_transformer_learns_from_it(
    store, tmp_path, experiment_of, recurrent
):
    if recurrent:
        kwargs = {"lstm_hidden_size": 16}
        _, file = saved(
            tmp_path, sb3_contrib.RecurrentPPO, "MlpLstmPolicy", steps=256, policy_kwargs=kwargs
        )
    else:
        _, file = saved(tmp_path, steps=3072)
    command = [
        *ROOM,
        "agent=sb3",
        f"agent.file={file}",
        f"agent.digest={checksum(file)}",
        "dataset.episodes=60",
        "dataset.mixture=[{temperature:0.5,share:1/2},{temperature:50,share:1/2}]",
        "dataset.environments=20",
        "dt=small",
        "dt.steps=2",
        "dt.optimiser.warm_up=1",
        "dt.model.d_model=16",
        "dt.model.d_mlp=16",
        "dt.model.n_heads=2",
        "dt.validation_windows=8",
        "dt.batch_size=8",
        "dt.kept_checkpoints=1",
        "target=dt",
        f"store.path={store.root}",
        "tracking.enabled=false",
    ]
    what = experiment(compose(command))
    run(what)
    dt = what.targets["dt"]
    episodes = dt.dataset.load()
    success = [(episodes.outcome[episodes.temperature == t] == 0).mean() for t in (0.5, 50)]
    assert len(episodes.start) == 60, success
    if not recurrent:
        assert success[0] > 0.8 > 0.6 > success[1]  # it has learnt, and heat undoes it
    assert dt.load() is not None
    weights = store.folder(dt.dataset.agent) / "weights.safetensors"
    assert weights.is_file() and not (weights.parent / "model.zip").exists()


def test_nothing_is_unpickled(store, experiment_of, tmp_path):
    """A file in which every pickle is spoilt is read all the same."""
    _, file = saved(tmp_path)
    bad = tmp_path / "bad.zip"
    poison = "AAAA"  # whoever reads it as a pickle fails
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(bad, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "data":
                data = json.loads(content)
                pickles = [v for v in data.values() if isinstance(v, dict) and ":serialized:" in v]
                assert len(pickles) > 3
                for value in pickles:
                    value[":serialized:"] = poison
                content = json.dumps(data).encode()
            new.writestr(name, content)
    data, weights = read(bad)
    assert weights and data["policy_class"][":serialized:"] == poison
    run(experiment_of(stage(bad)))


def test_classes_of_ones_own_need_the_explicit_unsafe_way(store, experiment_of, tmp_path, capsys):
    model, file = saved(tmp_path, policy_kwargs={"features_extractor_class": Own})
    with pytest.raises(UserError, match=r"extractor of its own .*agent.unsafe_pickle=true"):
        run(experiment_of(stage(file)))
    teacher = stage(file, "agent.unsafe_pickle=true")
    run(experiment_of(teacher))
    assert "warning: unpickling" in capsys.readouterr().err
    images = views(5)
    logits, *_ = teacher.load().step(torch.from_numpy(images), torch.zeros(5, 0))
    given, _ = model.policy.obs_to_tensor(shown(OneHot, images))
    with torch.no_grad():
        assert torch.equal(logits, model.policy.get_distribution(given).distribution.logits)
    with pytest.raises(UserError, match="is a pickle"):
        load(teacher.path, unsafe_pickle=False)


class Small(gymnasium.Env):
    """Spaces that a policy may have, and nothing else."""

    def __init__(self, seen, actions):
        self.observation_space, self.action_space = seen, actions


@pytest.mark.parametrize(
    ("seen", "actions", "policy", "message"),
    [
        (spaces.Box(0, 1, (147,)), 7, "MlpPolicy", "is one_hot, but .* agent.observation=indices"),
        (spaces.Box(0, 1, (12,)), 7, "MlpPolicy", "Box .12,.: such a policy cannot be used"),
        (spaces.Box(0, 1, (980,)), 3, "MlpPolicy", "has 3 actions, but env=.* has 7"),
        (
            spaces.Dict({"direction": spaces.Box(0, 3, (1,)), "image": spaces.Box(0, 1, (980,))}),
            7,
            "MultiInputPolicy",
            "reads 'direction' beside the image",
        ),
        (spaces.Box(-10, 10, (980,)), 7, "MlpPolicy", "numbers from -10 to 10, .* VecNormalize"),
        (spaces.Box(-1, 1, (980,)), 7, "MlpPolicy", "numbers from -1 to 1"),
        (spaces.Box(0, 0.5, (980,)), 7, "MlpPolicy", "numbers from 0 to 0.5"),
        (spaces.Box(-np.inf, np.inf, (980,)), 7, "MlpPolicy", "numbers from -inf to inf"),
        (
            spaces.Dict({"image": spaces.Box(-5, 5, (980,))}),
            7,
            "MultiInputPolicy",
            "(numbers from -5 to 5|is one_hot, but .* reads Dict)",
        ),
        (spaces.MultiDiscrete([3, 3]), 7, "MlpPolicy", "a space that dtx does not understand"),
    ],
)
def test_what_does_not_fit_is_refused(
    store, experiment_of, tmp_path, seen, actions, policy, message
):
    model = stable_baselines3.PPO(
        policy, Small(seen, spaces.Discrete(actions)), n_steps=8, batch_size=8, device="cpu"
    )
    model.save(tmp_path / "teacher.zip")
    with pytest.raises(UserError, match=message):
        run(experiment_of(stage(tmp_path / "teacher.zip")))


def test_files_that_are_none_are_one_line(store, experiment_of, tmp_path):
    text = tmp_path / "text.zip"
    text.write_text("no zip")
    with pytest.raises(UserError, match=r"is no file that `model\.save`"):
        run(experiment_of(stage(text)))
    stable_baselines3.DQN("MlpPolicy", make(OneHot), buffer_size=10).save(tmp_path / "teacher")
    file = tmp_path / "teacher.zip"
    with pytest.raises(UserError, match="policies of PPO and RecurrentPPO can be read"):
        run(experiment_of(stage(file)))
    other = stage(file)
    shutil.copy(text, file)
    with pytest.raises(UserError, match="is not the file that"):
        run(experiment_of(dataclasses.replace(other, file=file)))


def test_a_dataset_says_which_teacher_it_has(store, experiment_of, tmp_path):
    _, file = saved(tmp_path)
    teacher = stage(file)
    assert teacher.observation is Observation.one_hot
    recorded = Rollouts(
        env=teacher.env,
        agent=teacher,
        episodes=4,
        mixture=(Share(temperature=1, share=1),),
        environments=2,
        validation=0.25,
        seed=0,
        facts=False,
    )
    run(experiment_of(recorded))
    assert recorded.inputs() == {"agent": teacher} and len(recorded.load().start) == 4
    moved = dataclasses.replace(teacher, file=tmp_path / "elsewhere.zip")
    assert moved.key == teacher.key  # a file's place is no part of what it is


def rewritten(file, change=lambda data: None, compress=zipfile.ZIP_STORED, **members):
    """A copy of a file whose description, or other members, are changed."""
    new = file.with_name("changed.zip")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(new, "w", compress) as archive:
        for name in old.namelist():
            content = members.get(name.partition(".")[0], old.read(name))
            if name == "data" and "data" not in members:
                data = json.loads(content)
                change(data)
                content = json.dumps(data).encode()
            archive.writestr(name, content)
    return new


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(
            (lambda d, m=module: d["policy_class"].update(__module__=m), "its policy is of")
            for module in (
                "stable_baselines3.common.policies_of_mine",
                "stable_baselines3.common.policies.evil",
                "sb3_contrib.common.recurrent",
                "sb3_contrib.common.recurrent_mine",
                "os",
            )
        ),
        (lambda d: d.pop("policy_class"), "'policy_class' is missing"),
        (lambda d: d.update(policy_class="text"), "changed.zip"),
        (lambda d: d.update(policy_kwargs={"net_arch": [10**10]}), "net_arch is 10000000000"),
        (lambda d: d.update(policy_kwargs={"net_arch": {"pi": [10**9]}}), "pi is 1000000000"),
        (lambda d: d.update(policy_kwargs={"n_lstm_layers": 10**9}), "n_lstm_layers is"),
        (lambda d: d["action_space"].update(n=str(10**12)), "changed.zip"),
        (lambda d: d["observation_space"].update(_shape=[10**6, 10**6]), "does not understand"),
        (lambda d: d["observation_space"].update(dtype="U1000000"), "does not understand"),
    ],
)
def test_what_a_description_claims_is_not_believed(tmp_path, change, message):
    _, file = saved(tmp_path)
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=message):
        convert(rewritten(file, change), tmp_path / "out", Observation.one_hot, False)


def test_members_that_are_damaged_or_inflate_are_one_line(tmp_path):
    _, file = saved(tmp_path)
    for members in ({"data": b"[" * 10**6}, {"data": b"{}"}, {"data": b"\xff"}, {"policy": b"PK"}):
        with pytest.raises(UserError, match=r"changed\.zip"):
            read(rewritten(file, **members))
    large = b" " * 300 * 1024**2  # a file of 300 kB
    with pytest.raises(UserError, match=r"data: 314,572,800 bytes are more than any has"):
        read(rewritten(file, compress=zipfile.ZIP_DEFLATED, data=large))


@pytest.mark.parametrize("name", ["../../precious", "/precious", "policy.pth", "data"])
def test_what_leaves_the_folder_in_a_zip_is_never_unpacked(tmp_path, name):
    """Members are read by name, so others and links among them write nothing."""
    _, file = saved(tmp_path)
    (tmp_path / "precious").write_text("1")
    (tmp_path / "in").mkdir()
    odd = tmp_path / "in" / "odd.zip"
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(odd, "w") as new:
        for member in old.namelist():
            if member != name:
                new.writestr(member, old.read(member))
        link = zipfile.ZipInfo(name)
        link.external_attr = 0o120777 << 16  # a symbolic link
        new.writestr(link, str(tmp_path / "precious"))
    out = tmp_path / "in" / "out"
    out.mkdir()
    if name in ("policy.pth", "data"):
        with pytest.raises(UserError, match=r"cannot be read|is not JSON"):
            convert(odd, out, Observation.one_hot, False)
    else:
        convert(odd, out, Observation.one_hot, False)
    assert (tmp_path / "precious").read_text() == "1"
    assert {p.name for p in tmp_path.iterdir()} == {"precious", "in", "teacher.zip"}
    assert not any(p.is_symlink() for p in tmp_path.rglob("*"))
