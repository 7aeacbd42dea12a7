"""Sweeps through each launcher: shared work once, failures in the parent's table, nobody left behind."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from hydra.core.plugins import Plugins

from dtx.cli import main
from tests.where import WHERE, write_where

ROOT = Path(__file__).parents[2]
QUIET = "tracking.enabled=false"
LAUNCHERS = ["joblib", "submitit_local", "ray"]
FEW_CORES = {
    "joblib": ["hydra.launcher.n_jobs=2"],
    "submitit_local": [],
    "ray": ["hydra.launcher.ray.init.num_cpus=2"],
}


@pytest.fixture
def user(tmp_path, monkeypatch):
    write_where(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sweep(folder: Path, *args: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "dtx", "run", "-m", "--config-dir", "mine", *WHERE, QUIET]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1"}
    env.pop("OMP_NUM_THREADS", None)  # what a worker gets is up to dtx
    return subprocess.Popen(
        [*command, *args], cwd=folder, env=env, stderr=subprocess.PIPE, text=True
    )


def notes(folder: Path, pattern: str = "*") -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"{pattern}.*.json"))]


def wait_for_notes(folder: Path, count: int, job: subprocess.Popen) -> None:
    end = time.monotonic() + 180
    while len(list(folder.glob("job*.json"))) < count:
        assert job.poll() is None, job.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.05)


def ends(pids: list[int]) -> bool:
    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    return not psutil.wait_procs(processes, timeout=30)[1]


@pytest.mark.parametrize("launcher", [*LAUNCHERS[:2], pytest.param("ray", marks=pytest.mark.slow)])
def test_a_sweep_runs_in_workers_and_tells_their_failures_here(launcher, user):
    job = sweep(
        user,
        f"hydra/launcher={launcher}",
        *FEW_CORES[launcher],
        "analysis.job.value=1,2,-1",
        "analysis.job.together=2",
    )
    _, error = job.communicate(timeout=300)
    assert job.returncode == 1, error
    assert "3 jobs: 2 ran, 1 failed; 3 stages ran" in error
    table = error[error.index("3 jobs:") :]
    assert table.count("told to fail at -1") == 1 and "Traceback" not in error
    assert "UserWarning" not in error and "deprecated" not in error
    assert len(notes(user, "shared")) == 1 and len(notes(user, "job*")) == 3
    seen = notes(user)
    workers = {note["pid"] for note in seen}
    assert job.pid not in workers and len(workers) > 1
    assert {note["threads"] for note in seen} == {"1"}
    assert ends(list(workers))


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_sigterm_ends_the_workers_and_keeps_what_is_done(launcher, user):
    job = sweep(
        user,
        f"hydra/launcher={launcher}",
        *FEW_CORES[launcher],
        "analysis.job.value=1,2",
        "analysis.job.together=99",
    )
    wait_for_notes(user, 2, job)
    children = [child.pid for child in psutil.Process(job.pid).children(recursive=True)]
    job.send_signal(signal.SIGTERM)
    _, error = job.communicate(timeout=60)
    assert job.returncode == 130, error
    assert "interrupted: finished stages are kept" in error
    assert ends([note["pid"] for note in notes(user)] + children)
    done = [path.parent.name for path in user.glob("store/*/done.json")]
    assert len(done) == 1 and done[0].startswith("where-")


def processes_of(user: Path, job: subprocess.Popen) -> list[int]:
    children = [child.pid for child in psutil.Process(job.pid).children(recursive=True)]
    return [note["pid"] for note in notes(user)] + children


@pytest.mark.parametrize("launcher", [*LAUNCHERS[:2], pytest.param("ray", marks=pytest.mark.slow)])
def test_workers_end_when_the_command_is_killed_and_the_same_command_completes(launcher, user):
    jobs = [f"hydra/launcher={launcher}", *FEW_CORES[launcher], "analysis.job.value=1,2"]
    here = {path.name for path in Path("/dev/shm").glob("*")}  # where loky has its semaphores
    job = sweep(user, *jobs, "analysis.job.together=9")
    wait_for_notes(user, 2, job)
    below = processes_of(user, job)
    job.kill()
    job.wait()
    job.stderr.close()
    assert ends(below)
    left = {p.name for p in Path("/dev/shm").glob("*")} - here
    assert not [name for name in left if str(job.pid) in name]
    for n in range(10, 20):  # the jobs wait no longer
        (user / f"job{n}.0.json").write_text("{}")
    again = sweep(user, *jobs, "analysis.job.together=9")
    _, error = again.communicate(timeout=300)
    assert again.returncode == 0, error
    assert "2 jobs: 2 ran; 2 stages ran" in error


@pytest.mark.parametrize(
    ("launcher", "number"),
    [
        ("joblib", signal.SIGKILL),
        ("joblib", signal.SIGTERM),
        ("submitit_local", signal.SIGKILL),
        pytest.param("submitit_local", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("ray", signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_the_death_of_a_worker_costs_only_its_own_job(launcher, number, user):
    few = FEW_CORES[launcher]
    few = [*few, "hydra.launcher.ray.remote.max_retries=0"] if launcher == "ray" else few
    jobs = [f"hydra/launcher={launcher}", *few, "analysis.job.value=1,2,3"]
    job = sweep(user, *jobs, "analysis.job.together=9")
    wait_for_notes(user, 2, job)
    (victim, *_) = [note["pid"] for note in notes(user, "job[12]")]
    os.kill(victim, number)
    for n in range(10, 20):  # the others wait no longer
        (user / f"job{n}.0.json").write_text("{}")
    _, error = job.communicate(timeout=300)
    assert job.returncode == 1, error
    assert "3 jobs: 1 failed, 2 ran" in error or "3 jobs: 2 ran, 1 failed" in error
    table = error[error.index("3 jobs:") :]
    why = "its worker was killed" if number == signal.SIGKILL else "told to end (SIGTERM)"
    assert table.count(why) == 1 and "Traceback" not in error
    (manifest,) = user.glob("multirun/*/*/sweep.json")
    told = [job["status"] for job in json.loads(manifest.read_text())["jobs"]]
    assert sorted(told) == ["failed", "ran", "ran"]
    assert not list(user.glob("multirun/*/*/.running/*"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def cluster(monkeypatch):
    """A Ray cluster of two nodes with one core each; gives its address."""
    place = Path(
        tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    )  # the paths of its sockets must be short
    port = free_port()
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    head = ["--head", f"--port={port}", f"--temp-dir={place}", "--include-dashboard=false"]
    head += [f"--ray-client-server-port={free_port()}", "--disable-usage-stats"]
    nodes: list[subprocess.Popen] = []
    try:
        for which in (head, [f"--address=127.0.0.1:{port}"]):
            nodes.append(start_node(place / f"start-{len(nodes)}.txt", *which))
        yield f"127.0.0.1:{port}"
    finally:
        for node in nodes:
            below = psutil.Process(node.pid).children(recursive=True)
            node.kill()
            node.wait()
            for process in below:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        shutil.rmtree(place, ignore_errors=True)


def start_node(log: Path, *which: str) -> subprocess.Popen:
    command = [Path(sys.executable).parent / "ray", "start", *which, "--node-ip-address=127.0.0.1"]
    command += ["--num-cpus=1", "--object-store-memory=80000000", "--block"]
    with log.open("w") as told:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        node = subprocess.Popen(command, env=env, stdout=told, stderr=told)
    while "Ray runtime started" not in log.read_text():
        assert node.poll() is None, log.read_text()
        time.sleep(0.1)
    return node


def test_a_ray_cluster_of_two_nodes_runs_jobs_on_both(user, cluster):
    job = sweep(
        user,
        "hydra/launcher=ray",
        f"hydra.launcher.ray.init.address={cluster}",
        "analysis.job.value=1,2",
        "analysis.job.together=2",  # one core a node: both jobs at once need both nodes
    )
    _, error = job.communicate(timeout=300)
    assert job.returncode == 0, error
    assert "2 jobs: 2 ran; 3 stages ran" in error
    assert len(notes(user, "shared")) == 1
    assert len({note["node"] for note in notes(user, "job*")}) == 2


@pytest.mark.parametrize(
    ("launcher", "plugin", "extra"),
    [
        ("joblib", "hydra_joblib_launcher", "joblib"),
        ("slurm", "hydra_submitit_launcher", "submitit"),
        ("submitit_local", "hydra_submitit_launcher", "submitit"),
        ("ray", "hydra_ray_launcher", "ray"),
    ],
)
def test_a_launcher_that_is_not_installed_is_one_line(
    launcher, plugin, extra, user, monkeypatch, capsys
):
    Plugins.instance()  # Hydra looks for plugins once a process; other tests want them
    monkeypatch.setitem(sys.modules, f"hydra_plugins.{plugin}", None)  # as if it were not there
    command = ["run", "-m", "--config-dir", "mine", *WHERE, QUIET, "analysis.job.value=1,2"]
    assert main([*command, f"hydra/launcher={launcher}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"dtx: error: hydra/launcher: {extra} is not installed; pip install 'dtx[{extra}]'"
    )


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("hydra.launcher.n_job=2", "Could not override 'hydra.launcher.n_job'"),
        ("hydra.launcher.n_jobs=two", "JoblibLauncher cannot launch jobs"),
    ],
)
def test_a_wrong_field_of_a_launcher_is_one_line(override, words, user, capsys):
    command = ["run", "-m", "--config-dir", "mine", *WHERE, QUIET, "analysis.job.value=1,2"]
    assert main([*command, "hydra/launcher=joblib", override]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_slurm_says_where_it_is_not(user, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    command = ["run", "-m", "--config-dir", "mine", *WHERE, QUIET, "analysis.job.value=1,2"]
    assert main([*command, "hydra/launcher=slurm"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "SlurmLauncher cannot launch jobs" in line and "srun" in line
