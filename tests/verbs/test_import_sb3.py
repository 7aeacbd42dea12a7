"""`dtx import` of a teacher from Stable-Baselines3, and its use."""

import shlex

import pytest
import torch

import dtx
from dtx.cli import main
from dtx.config.compose import compose, experiment
from dtx.errors import UserError

pytest.importorskip("stable_baselines3")
pytest.importorskip("sb3_contrib")

from gymnasium import spaces

from tests.agent.test_sb3 import (
    ROOM,
    Indices,
    Own,
    Small,
    saved,
    sb3_contrib,
    shown,
    stable_baselines3,
    views,
)

QUIET = "tracking.enabled=false"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_zip_becomes_a_config_by_its_observation_space(here, capsys):
    model, file = saved(here, wrapper=Indices)
    assert main(["import", str(file), *ROOM, QUIET]) == 0
    words = shlex.split(capsys.readouterr().out.strip().splitlines()[-1].removeprefix("use it: "))[
        2:
    ]
    assert words[0] == "agent=teacher" and set(ROOM) <= set(words)
    text = (here / "conf" / "agent" / "teacher.yaml").read_text()
    assert "observation: indices" in text and "unsafe_pickle: false" in text
    stage = experiment(compose(words, here / "conf")).targets["dataset"].agent
    file.unlink()  # it is in the store
    assert main(["run", "agent=teacher", *ROOM, "target=agent", QUIET]) == 0
    found = dtx.load("agent", stage.key, store="store")
    by_name = dtx.load("agent", "teacher", *ROOM, store="store", config_dir="conf")
    assert found.label == by_name.label == stage.label and found.headline["sb3/n_actions"] == 7
    images = views(4)
    given, _ = model.policy.obs_to_tensor(shown(Indices, images))
    with torch.no_grad():
        wanted = model.policy.get_distribution(given).distribution.logits
        for agent in (found.agent, by_name.agent):
            assert torch.equal(agent.step(images, agent.initial_memory(4))[0], wanted)


def test_what_it_reads_decides_or_the_choices_are_named(here, capsys):
    def refused(file, *more):
        assert main(["import", str(file), *more, QUIET]) == 2
        assert not list(here.rglob("*.yaml"))
        return " ".join(capsys.readouterr().err.split())

    small = Small(spaces.Box(0, 1, (12,)), spaces.Discrete(7))
    stable_baselines3.PPO("MlpPolicy", small, n_steps=8, batch_size=8, device="cpu").save(
        here / "a.zip"
    )
    said = refused(here / "a.zip")
    assert "reads Box (12,); dtx can show it one_hot (980 numbers), indices (147 numbers)" in said
    _, file = saved(here)
    assert "has 7 actions, but env=" in refused(file, "env=dynamic_obstacles")
    _, file = saved(here, policy_kwargs={"features_extractor_class": Own})
    assert "extractor of its own" in refused(file)
    assert main(["import", str(file), "--unsafe-pickle", *ROOM, QUIET]) == 0
    assert "warning: unpickling" in capsys.readouterr().err
    (label,) = [p.name for p in (here / "store").iterdir() if p.name.startswith("sb3-")]
    with pytest.raises(UserError, match="is a pickle"):
        _ = dtx.load("agent", label, store="store").agent
    trusted = dtx.load("agent", "teacher", *ROOM, store="store", config_dir="conf")
    assert trusted.agent.n_actions == 7
    assert main(["export", label, "out"]) == 2
    assert "are a pickle, which is not exported" in " ".join(capsys.readouterr().err.split())


def test_it_is_handed_over(here, store, tmp_path):
    kwargs = {"lstm_hidden_size": 6}
    _, file = saved(tmp_path, sb3_contrib.RecurrentPPO, "MlpLstmPolicy", policy_kwargs=kwargs)
    where = f"store.path={store.root}"
    assert main(["import", str(file), *ROOM, where, QUIET]) == 0
    stage = experiment(
        compose(["agent=teacher", *ROOM, "target=agent", where], here / "conf")
    ).targets["agent"]
    assert main(["export", stage.label, "out", "--store", str(store.root)]) == 0
    assert "A recurrent actor-critic agent" in (here / "out" / "README.md").read_text()
    assert main(["import", "out", "--as", "again", where, QUIET]) == 0
    again = (
        experiment(compose(["agent=again", "target=agent", where], here / "conf"))
        .targets["agent"]
        .load()
    )
    images = views(3)
    first, second = (a.step(images, a.initial_memory(3)) for a in (stage.load(), again))
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))
