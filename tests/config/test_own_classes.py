"""What of the working folder runs: a class that a config names, in verbs that run stages; nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dtx import verbs
from dtx.cli import main
from dtx.config import own_classes

ROOT = Path(__file__).parents[2]
LIKE_LIBRARIES = (
    *("yaml", "numpy", "pandas", "torch", "hydra", "omegaconf", "rich", "mlflow", "matplotlib"),
    *("gymnasium", "minari", "pytorch_lightning", "uvicorn", "gunicorn.conf", "dotenv", "fsspec"),
    *(
        "sitecustomize",
        "usercustomize",
        "conftest",
        "setup",
        "json",
        "random",
        "argparse",
        "typing",
    ),
)
LEAVES_A_TRACE = "open('ran', 'a').write(__name__ + ' ')\n"
STAGE = """
from dataclasses import dataclass
from dtx.stage import Stage

@dataclass(frozen=True, kw_only=True)
class Mine(Stage):
    value: int

    def run(self, out):
        import beside
        (out / "value.txt").write_text(str(self.value + beside.ONE))
"""
OPTION = "# @package analysis.mine\n_target_: own_stage.Mine\nvalue: 1\n"
PRESET = "# @package _global_\ndefaults: [{override /analysis: [mine]}]\n"
COMMANDS = {
    "app": ["--scene", "#1&m=planted&a=f&e=set_rtg:value=0:scope=all", "--yaml"],
    "compare": ["-m", "dt.seed=0,1"],
    "completion": ["--query=dtx run dt."],
    "cp": ["agent/ppo", "mine", "--as", "sharp"],
    "export": ["nothing", "out"],
    "import": ["nothing.pt"],
    "invalidate": ["nothing"],
    "redraw": [],
    "reproduce": ["nothing"],
    "run": ["--info", "plugins"],
    "ui": ["--uri", "http://127.0.0.1:1"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hydra_plugins").mkdir()
    for name in (*LIKE_LIBRARIES, "hydra_plugins/x", "hydra_plugins/__init__"):
        (tmp_path / f"{name}.py").write_text(LEAVES_A_TRACE)
    (tmp_path / ".env").write_text("MLFLOW_TRACKING_URI=nowhere://\n")
    (tmp_path / "setup.cfg").write_text("[metadata]\nname = theirs\n")
    (tmp_path / "MLproject").write_text("name: theirs\n")
    (tmp_path / "store").mkdir()
    return tmp_path


def _env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_no_file_of_the_working_folder_runs_because_it_is_there(folder):
    lines = [[verb, *COMMANDS.get(verb, [])] for verb in verbs.names()]
    every = f"from dtx.cli import main\nprint([main(line) for line in {lines}])"
    command = [sys.executable, "-P", "-c", every]  # -P: what `dtx` on the PATH does
    done = subprocess.run(command, cwd=folder, env=_env(), capture_output=True, text=True)
    assert not (folder / "ran").exists(), (folder / "ran").read_text()
    statuses = json.loads(done.stdout.splitlines()[-1])
    assert len(statuses) == len(lines) and set(statuses) <= {0, 2}, done.stderr


def test_nor_under_python_m_where_python_itself_would_look_there_first(folder):
    (folder / "typing.py").unlink()  # Python needs it to find dtx at all
    done = subprocess.run(
        [sys.executable, "-m", "dtx", "plan"],
        cwd=folder,
        env=_env(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not (folder / "ran").exists()


def test_a_class_that_a_config_names_is_imported_by_verbs_that_run_or_plan(
    folder, monkeypatch, capsys, looking
):
    (folder / "own_stage.py").write_text(STAGE)
    (folder / "beside.py").write_text("ONE = 1\n")
    (folder / "conf" / "analysis").mkdir(parents=True)
    (folder / "conf" / "experiment").mkdir()
    (folder / "conf" / "analysis" / "mine.yaml").write_text(OPTION)
    (folder / "conf" / "experiment" / "mine.yaml").write_text(PRESET)
    monkeypatch.chdir(folder)
    assert main(["gc"]) == 2
    assert "PYTHONPATH=. dtx gc" in capsys.readouterr().err and "own_stage" not in sys.modules
    assert main(["plan", "analysis=[mine]"]) == 0
    assert main(["run", "analysis=[mine]", "tracking.enabled=false"]) == 0
    (made,) = (folder / "store").glob("own_stage-*/value.txt")
    assert made.read_text() == "2"  # imports within its functions find what lies beside it
    assert not (folder / "ran").exists()


@pytest.fixture
def looking(tmp_path, monkeypatch):
    """Gives a function that says where own classes are; forgotten after the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(own_classes, "_folder", None)
    monkeypatch.setattr(own_classes, "_refusal", None)

    def look(refusal: str | None = None) -> Path:
        own_classes.look_in(tmp_path, refusal)
        return tmp_path

    return look


def test_an_installed_module_comes_first_and_adds_no_folder(looking):
    folder = looking()
    (folder / "textwrap.py").write_text("raise SystemExit('of the working folder')")
    assert own_classes.module_of("textwrap").__name__ == "textwrap"
    assert str(folder) not in sys.path


def test_a_module_is_found_in_a_package_too_and_its_own_errors_are_told(looking):
    folder = looking()
    (folder / "own_lab").mkdir()
    (folder / "own_lab" / "first.py").write_text("NUMBER = 3\n")
    (folder / "own_lab" / "second.py").write_text("import not_installed_anywhere\n")
    assert own_classes.module_of("own_lab.first").NUMBER == 3
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        own_classes.module_of("own_lab.second")
    with pytest.raises(ModuleNotFoundError, match=r"own_lab\.third"):
        own_classes.module_of("own_lab.third")


def test_a_verb_that_may_not_import_says_so_only_where_a_file_is_there(looking):
    folder = looking("nothing is imported")
    (folder / "own_refused.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(ImportError, match="nothing is imported"):
        own_classes.module_of("own_refused")
    with pytest.raises(ModuleNotFoundError, match="own_absent"):
        own_classes.module_of("own_absent")
