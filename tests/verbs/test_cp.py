import shlex

import pytest

from dtx.cli import main
from dtx.config.compose import CONF, compose, experiment
from dtx.config.options import options
from dtx.sweep.grid import read_sweep
from tests.config.test_compose import IN_COMPANY
from tests.required import required

ALL = [f"{group}/{o.name}" for group, found in options().items() for o in found]


@pytest.mark.parametrize("option", ALL)
def test_every_config_can_be_copied_and_the_printed_command_composes_it(option, tmp_path, capsys):
    folder = tmp_path / "my configs"
    assert main(["cp", option, str(folder), "--as", "mine"]) == 0
    wrote, command = capsys.readouterr().out.splitlines()
    group, name = option.rsplit("/", 1)
    assert wrote.endswith(f"{group}/mine.yaml")
    words = shlex.split(command.removeprefix("use it: "))
    if group.startswith("hydra/sweeper"):
        assert words == ["dtx", "run", "-m", "--config-dir", str(folder), f"{group}=mine"]
        return
    if group == "hydra/launcher":
        assert words == ["dtx", "run", "-m", "--config-dir", str(folder), "hydra/launcher=mine"]
        sweep = read_sweep([words[-1], "dt.seed=0,1"], folder)
        assert sweep.hydra == ("hydra/launcher=mine",) and len(sweep.jobs) == 2
        return
    assert words[:4] == ["dtx", "run", "--config-dir", str(folder)]
    more = required(option)
    # The default analyses train, and not any model; the default model is not for any environment.
    ends = {"env": "agent", **{name: name for name in ("dt", "pairs", "activations", "dictionary")}}
    more += [f"target={ends[group]}"] if group in ends else []
    if option in IN_COMPANY:
        words[4] = f"analysis=[{IN_COMPANY[option]},mine]"
    what = experiment(compose([*words[4:], *more], folder))
    original = experiment(compose([words[4].replace("mine", name), *more]))
    assert [s.key for s in what.targets.values()] == [s.key for s in original.targets.values()]
    if group == "analysis" and option != "analysis/calibration_quick":  # settings of calibration
        assert "mine" in what.targets


def test_what_is_changed_in_the_copy_counts(tmp_path):
    main(["cp", "agent/ppo", str(tmp_path), "--as", "sharp"])
    path = tmp_path / "agent" / "sharp.yaml"
    text = (CONF / "agent" / "ppo.yaml").read_text()
    assert path.read_text() == text  # comments and all
    path.write_text(text.replace("width: 128", "width: 96"))
    what = experiment(compose(["agent=sharp", "target=agent"], tmp_path))
    assert what.targets["agent"].width == 96


def test_an_analysis_refers_to_itself_by_its_new_name(tmp_path):
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / "toy.yaml").write_text(
        "# @package analysis.toy\n"
        "_target_: tests.toys.Sum\n"
        "left: {_target_: tests.toys.Number, value: 1, sign: plus, parts: [], workers: 1}\n"
        'right: {_base_: "${analysis.toy.left}", value: 2}\n'
        'seconds: 0\nfail: ""\n'
    )
    folder = str(tmp_path)
    assert main(["cp", "analysis/toy", folder, "--as", "toys2", "--config-dir", folder]) == 0
    text = (tmp_path / "analysis" / "toys2.yaml").read_text()
    assert text.startswith("# @package analysis.toys2\n") and "${analysis.toys2.left}" in text
    what = experiment(compose(["analysis=[toys2]", "analysis.toys2.left.value=5"], tmp_path))
    assert what.targets["toys2"].right.value == 2


def test_nothing_is_written_over_without_force(tmp_path, capsys):
    path = tmp_path / "dt" / "mine.yaml"
    path.parent.mkdir()
    path.write_text("precious: 1\n")
    assert main(["cp", "dt/small", str(tmp_path), "--as", "mine"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert path.read_text() == "precious: 1\n"
    assert main(["cp", "dt/small", str(tmp_path), "--as", "mine", "--force"]) == 0
    assert "n_layers" in path.read_text()


@pytest.mark.parametrize(
    ("option", "name", "words"),
    [
        ("agent/pop", "x", "agent/pop: no such config (did you mean 'ppo'?)"),
        ("agnet/ppo", "x", "agnet: no such group of configs (did you mean 'agent'?)"),
        ("ppo", "x", "give GROUP/NAME"),
        ("agent/ppo", "../x", "a name has letters"),
        ("agent/ppo", "ppo", "takes precedence over yours"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(tmp_path, capsys, option, name, words):
    assert main(["cp", option, str(tmp_path / "mine"), "--as", name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not (tmp_path / "mine").exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["cp", "agent/ppo", str(tmp_path / "file"), "--as", "x"]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_the_same_again_is_done_and_another_content_stays(tmp_path, capsys):
    command = ["cp", "agent/ppo", str(tmp_path), "--as", "sharp"]
    assert main(command) == 0 and main(command) == 0
    assert "is there already" in capsys.readouterr().out
    path = tmp_path / "agent" / "sharp.yaml"
    path.write_text("mine: 1\n")
    assert main(command) == 2
    assert "--force to write over it" in " ".join(capsys.readouterr().err.split())
    assert path.read_text() == "mine: 1\n"
    assert main([*command, "--force"]) == 0 and path.read_text() != "mine: 1\n"


@pytest.mark.parametrize("link", ["agent", "agent/sharp.yaml"])
def test_nothing_is_copied_through_a_link(tmp_path, capsys, link):
    (tmp_path / "elsewhere").mkdir()
    place = tmp_path / "mine" / link
    place.parent.mkdir(parents=True)
    for target in ("elsewhere", "elsewhere/none"):
        place.symlink_to(tmp_path / target)
        for more in ([], ["--force"]):
            assert main(["cp", "agent/ppo", str(tmp_path / "mine"), "--as", "sharp", *more]) == 2
            assert "is a link, and dtx does not write" in " ".join(capsys.readouterr().err.split())
        place.unlink()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_link_among_configs_is_not_copied(tmp_path, capsys):
    (tmp_path / "secret").write_text("password: 1\n")
    (tmp_path / "given" / "agent").mkdir(parents=True)
    (tmp_path / "given" / "agent" / "theirs.yaml").symlink_to(tmp_path / "secret")
    given = ["--config-dir", str(tmp_path / "given")]
    assert main(["cp", "agent/theirs", str(tmp_path / "mine"), *given, "--as", "x"]) == 2
    assert "is a link, and dtx reads only" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "mine").exists()
