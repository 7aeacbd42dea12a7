"""`dtx import`: from a file to a config that works."""

from __future__ import annotations

import shlex

import pytest

from dtx.cli import main
from dtx.config.compose import compose, experiment
from tests.exchange.published.test_convert_dataset import trajectories
from tests.published import RAW, agent, transformer, write, write_trajectories

OBSTACLES = {**RAW, "env_id": "MiniGrid-Dynamic-Obstacles-8x8-v0"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> int:
    return main(["import", *words, "tracking.enabled=false"])


def command_of(out: str) -> list[str]:
    wrote, command = out.strip().splitlines()[-2:]
    assert wrote.startswith("wrote ")
    words = shlex.split(command.removeprefix("use it: "))
    assert words[:2] == ["dtx", "run"]
    return words[2:]


def test_a_transformer_becomes_a_config_and_the_file_can_go(here, capsys):
    file = write(here / "Some model.pt", *transformer())
    assert run(str(file)) == 0
    words = command_of(capsys.readouterr().out)
    assert "dt=Some_model" in words and "pairs.dataset=null" in words
    what = experiment(compose(words, here / "conf"))
    stage = what.targets["activation_patching"].dt
    assert stage.label.startswith("imported-") and (here / "store" / stage.label).is_dir()
    file.unlink()
    assert main(["run", "dt=Some_model", "target=dt", "tracking.enabled=false"]) == 0
    assert "everything reused" in capsys.readouterr().err
    main(["invalidate", "imported"])
    assert main(["run", "dt=Some_model", "target=dt", "tracking.enabled=false"]) == 2
    assert "which is gone; `dtx import FILE`" in " ".join(capsys.readouterr().err.split())


def test_an_agent_and_an_environment_of_its_own(here, capsys):
    file = write(here / "a.pt", *agent(), OBSTACLES)
    assert run(str(file), "--as", "teacher", "--config-dir", "mine", "store.path=elsewhere") == 0
    words = command_of(capsys.readouterr().out)
    assert words[:3] == ["--config-dir", "mine", "agent=teacher"]
    assert {"env=dynamic_obstacles", "env.size=8", "store.path=elsewhere"} <= set(words)
    assert (here / "mine" / "agent" / "teacher.yaml").is_file() and not (here / "store").exists()
    what = experiment(compose(words[2:], here / "mine"))
    assert what.targets["dataset"].env.id == OBSTACLES["env_id"]
    assert what.targets["dataset"].agent.label in {p.name for p in (here / "elsewhere").iterdir()}


def test_trajectories_need_the_flag_and_then_warn(here, capsys):
    data = trajectories(actions=trajectories()["actions"] % 3)
    file = write_trajectories(here / "t.gz", data, OBSTACLES)
    assert run(str(file)) == 2
    assert "a pickle can run any program" in capsys.readouterr().err
    assert not (here / "conf").exists() and not (here / "store").exists()
    assert run(str(file), "--unsafe-pickle") == 0
    said = capsys.readouterr()
    assert said.err.count("warning") == 1
    words = command_of(said.out)
    assert words[0] == "dataset=t" and "env.size=8" in words
    dataset = experiment(compose(words, here / "conf")).targets["dt"].dataset
    assert len(list((here / "store" / dataset.label).glob("*.arrow"))) == 3


def test_what_is_wrong_leaves_nothing_behind(here, capsys):
    file = write(here / "a.pt", *transformer())
    assert run(str(here / "none.pt")) == 2
    assert "No such file" in capsys.readouterr().err
    tensors, config = transformer()
    odd = write(here / "odd.pt", {**tensors, "more": tensors["action_predictor.bias"]}, config)
    assert run(str(odd)) == 2
    assert "tensor more [7] has no place in the model" in capsys.readouterr().err
    other = write(here / "other.pt", {"weight": tensors["action_predictor.bias"]}, config)
    assert run(str(other)) == 2
    assert "neither a trajectory transformer" in capsys.readouterr().err
    assert run(str(file), "--as", "small") == 2
    assert "dtx's own dt/small" in capsys.readouterr().err
    assert run(str(file), "--as", "2x") == 2
    assert run(str(file), "stroe.path=x") == 2
    assert not list((here / "conf").rglob("*.yaml")) and not (here / "store").exists()
    assert run(str(file)) == 0
    assert run(str(file)) == 0  # the same once more
    config = here / "conf" / "dt" / "a.yaml"
    text = config.read_text()
    config.write_text(text + "# mine\n")
    assert run(str(file)) == 2
    assert "--force to write over it" in " ".join(capsys.readouterr().err.split())
    assert run(str(file), "--force", "stroe.path=x") == 2
    assert config.read_text() == text + "# mine\n"
    assert run(str(file), "--force") == 0
    assert config.read_text() == text


def test_no_config_is_written_through_a_link(here, capsys):
    file = write(here / "a.pt", *transformer())
    (here / "elsewhere").mkdir()
    for link, target in (("conf/dt", "elsewhere"), ("conf/dt/a.yaml", "elsewhere/none")):
        (here / link).parent.mkdir(parents=True, exist_ok=True)
        (here / link).symlink_to(here / target)
        for more in ((), ("--force",)):
            assert run(str(file), *more) == 2
            assert f"{link} is a link" in " ".join(capsys.readouterr().err.split())
        (here / link).unlink()
    assert not list((here / "elsewhere").iterdir()) and not (here / "store").exists()
