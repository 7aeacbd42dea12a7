"""What installs dtx: the Makefile, the container, CI files and the page on it say the same."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import dtx
from benchmarks.installation import UV

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PAGE = (ROOT / "docs" / "install.md").read_text()


def constraint(name: str) -> str:
    (version,) = re.findall(rf"(?im)^{name}==(.+)$", (ROOT / "constraints.txt").read_text())
    return version


def test_the_pages_lines_for_uv_are_those_that_are_measured():
    assert "```sh\n" + "\n".join(UV) + "\n```" in PAGE


def test_the_page_lists_all_extras():
    rows = re.findall(r"(?m)^\| (`.*?) \|", PAGE)
    assert set(re.findall(r"`([\w-]+)`", " ".join(rows))) == set(PROJECT["optional-dependencies"])


def test_the_core_brings_no_package_that_only_an_extra_needs():
    heavy = {"envpool", "transformer-lens", "ray", "stable-baselines3", "minari", "s3fs", "h5py"}
    core = {re.split(r"[<>=\[ ]", line)[0] for line in PROJECT["dependencies"]}
    assert not core & heavy


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == dtx.__version__
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


def test_commits_are_checked_with_the_version_that_ci_has():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert {h["id"] for h in hooks} == {"ruff-format", "ruff-check"}
    for hook in hooks:
        assert hook["additional_dependencies"] == [f"ruff=={constraint('ruff')}"]


@pytest.mark.parametrize("file", [".github/workflows/ci.yml", ".gitlab-ci.yml"])
def test_every_ci_runs_the_same_script_on_all_pythons(file):
    text = (ROOT / file).read_text()
    yaml.safe_load(text)
    assert "bash .ci/run" in text
    low, high = re.findall(r"3\.(\d+)", PROJECT["requires-python"])
    for minor in range(int(low), int(high)):
        assert f'"3.{minor}"' in text


@pytest.mark.slow
def test_the_containers_steps_work_in_a_clean_directory(tmp_path):
    """RUN, COPY and WORKDIR of the Dockerfile as a script, then what it starts with."""
    tracked = subprocess.check_output(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True
    )
    folder, start = tmp_path, []
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        step, _, rest = line.partition(" ")
        if step == "WORKDIR":
            folder = tmp_path / rest.lstrip("/")
            folder.mkdir(exist_ok=True)
        elif step == "COPY":
            for name in tracked.splitlines():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        elif step == "RUN" and not rest.startswith("apt-get"):
            subprocess.run(rest, shell=True, cwd=folder, check=True)
        elif step in ("ENTRYPOINT", "CMD"):
            start += yaml.safe_load(rest)
    assert shlex.join(start) == "/dtx/.venv/bin/dtx run"
    command = [str(tmp_path) + start[0], "run"]
    from tests.fast import FAST

    done = subprocess.run([*command, *FAST], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        folder.name == "results" and (folder / "store").is_dir() and (folder / "mlflow.db").exists()
    )
    size = subprocess.check_output(["du", "-sm", tmp_path / "dtx" / ".venv"], text=True)
    assert int(size.split()[0]) < 2000
