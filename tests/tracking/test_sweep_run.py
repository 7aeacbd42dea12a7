"""A sweep in a real database: one run a job, named by what is swept, with the same names everywhere."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dtx.cli import main
from tests.toys import CHAIN, write_chain

ROOT = Path(__file__).parents[2]
GRID = ["agent.value=1,2", "dt.value=10,25"]


@pytest.fixture
def user(tmp_path, monkeypatch, made_database):
    """A folder with toy configs and a database without runs."""
    write_chain(tmp_path / "mine")
    (tmp_path / "mlflow.db").write_bytes(made_database.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sweep(*args: str) -> int:
    return main(["run", "-m", "--config-dir", "mine", *CHAIN, *args])


def single(*args: str) -> int:
    return main(["run", "--config-dir", "mine", *CHAIN, *args])


def client_of(folder: Path):
    from mlflow import MlflowClient

    uri = f"sqlite:///{folder}/mlflow.db"
    return MlflowClient(uri, registry_uri=uri)


def found(folder: Path, role: str | None = None) -> list:
    """All runs, or those of a role."""
    client = client_of(folder)
    where = [client.get_experiment_by_name("dtx").experiment_id]
    every = client.search_runs(where, max_results=1000)
    return [r for r in every if role in (None, r.data.tags["dtx.role"])]


def parent_of(run) -> str | None:
    return run.data.tags.get("mlflow.parentRunId")


def test_a_job_has_a_run_named_by_what_is_swept_and_shared_stages_are_under_the_sweep(user):
    assert sweep(*GRID) == 0
    (parent,) = found(user, "sweep")
    jobs = {r.info.run_name: r for r in found(user, "job")}
    assert set(jobs) == {f"agent.value={a} dt.value={d}" for a in (1, 2) for d in (10, 25)}
    assert {parent_of(r) for r in jobs.values()} == {parent.info.run_id}
    assert {r.info.status for r in found(user)} == {"FINISHED"}
    job = jobs["agent.value=2 dt.value=25"]
    for run in (job, parent):
        assert {"agent.value", "dataset.value", "dt.value", "analysis.one.value"} <= set(
            run.data.params
        )
    assert (job.data.params["agent.value"], job.data.params["dt.value"]) == ("2", "25")
    assert parent.data.params["agent.value"] == parent.data.params["dt.value"] == "(swept)"
    assert not any(name.startswith(("store", "tracking")) for name in job.data.params)

    stages = [r for r in found(user) if "dtx.key" in r.data.tags]
    assert len(stages) == 2 + 2 + 4 + 8
    by_role: dict[str, list] = {}
    for run in stages:
        by_role.setdefault(run.data.tags["dtx.role"], []).append(run)
    shared = {r.info.run_id for role in ("before", "dataset") for r in by_role.get(role, ())}
    assert {parent_of(r) for r in stages if r.info.run_id in shared} <= {parent.info.run_id}
    own = [r for r in stages if parent_of(r) == job.info.run_id]
    assert sorted(r.data.tags["dtx.role"] for r in own) == sorted(["one", "two", *_dt_role(own)])
    # One name for each parameter, on the runs of stages as well.
    one = next(r for r in own if r.data.tags["dtx.role"] == "one")
    assert one.data.params["dt.value"] == "25" and one.data.params["agent.value"] == "2"
    assert set(one.data.params) <= set(job.data.params)
    assert one.info.run_name == f"one {one.data.tags['dtx.key'][:6]}"


def _dt_role(runs) -> list[str]:
    return [r.data.tags["dtx.role"] for r in runs if r.data.tags["dtx.role"] not in ("one", "two")]


def test_a_sweep_shows_its_numbers_as_curves_over_what_is_swept(user):
    assert sweep(*GRID) == 0
    client, (parent,) = client_of(user), found(user, "sweep")

    def curve(name: str) -> list[tuple[int, float]]:
        history = client.get_metric_history(parent.info.run_id, name)
        return [(p.step, p.value) for p in history]

    # chain/total of a job: agent + dataset + dt + analysis one
    names = [name for name in parent.data.metrics if name.startswith("chain/total by dt.value")]
    assert sorted(curve(name) for name in names) == [
        [(10, 11.0), (25, 26.0)],
        [(10, 12.0), (25, 27.0)],
    ]


def test_one_row_a_job_answers_which_setting_gave_which_result(user, monkeypatch):
    """At most 40% of the cells of parameters and metrics are empty, of a default run and a sweep of 4 jobs."""
    import mlflow
    import pandas as pd

    assert single() == 0 and sweep(*GRID) == 0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{user}/mlflow.db")
    frame = mlflow.search_runs(
        experiment_names=["dtx"], filter_string="tags.`dtx.role` = 'job'", output_format="pandas"
    )
    assert isinstance(frame, pd.DataFrame) and len(frame) == 5
    cells = frame[[c for c in frame.columns if c.startswith(("params.", "metrics."))]]
    assert cells.isna().to_numpy().mean() <= 0.4
    assert all("/" in c for c in cells.columns if c.startswith("metrics."))
    totals = {
        (row["params.agent.value"], row["params.dt.value"]): row["metrics.chain/total"]
        for _, row in frame.iterrows()
    }
    assert totals == {
        ("0", "0"): 0.0,
        ("1", "10"): 11.0,
        ("1", "25"): 26.0,
        ("2", "10"): 12.0,
        ("2", "25"): 27.0,
    }


def test_the_same_command_adds_no_run_and_jobs_that_are_cached_get_theirs(user):
    assert sweep(*GRID) == 0
    before = len(found(user))
    assert sweep(*GRID) == 0
    assert len(found(user)) == before
    # Another sweep over the same jobs and one more value of a field: a run for each of its jobs.
    assert sweep("agent.value=1,2", "dt.value=10") == 0
    jobs = found(user, "job")
    assert len(found(user, "sweep")) == 2 and len(jobs) == 4 + 2
    assert len(found(user)) == before + 1 + 2
    cached = [r for r in jobs if r.data.tags["mlflow.note.content"].count("(reused)") == 5]
    assert len(cached) == 2 and {r.info.status for r in cached} == {"FINISHED"}
    assert sorted(r.data.metrics["chain/total"] for r in cached) == [11.0, 12.0]
    # A single run of one of the jobs is a command of its own.
    assert single("agent.value=1", "dt.value=10") == 0
    (alone,) = [r for r in found(user, "job") if parent_of(r) is None]
    assert alone.info.run_name == "memory_dt agent=toy dataset=toy dt=toy analysis=[one,two] " + (
        "agent.value=1 dt.value=10"
    )
    assert single("agent.value=1", "dt.value=10") == 0
    assert len([r for r in found(user, "job") if parent_of(r) is None]) == 1


def test_a_job_that_failed_says_why_and_is_completed_by_the_same_command(user):
    assert sweep("dt.value=1,2", "analysis.two.fail=true") == 1
    jobs = found(user, "job")
    assert {r.info.status for r in jobs} == {"FAILED"}
    assert {r.data.tags["dtx.error"] for r in jobs} == {"told to fail at 1"}
    assert sweep("dataset.fail=true", "dt.value=1,2") == 1  # a stage that they share
    failed = [r for r in found(user, "job") if "dataset" in r.data.tags.get("dtx.error", "")]
    needs = [r for r in found(user, "job") if r.data.tags.get("dtx.error", "").startswith("needs ")]
    assert len(needs) == 2 and not failed
    assert {r.info.status for r in needs} == {"FAILED"}


HELD = '''
from dataclasses import dataclass
from tests.toys import Link
import time, os
from pathlib import Path

@dataclass(frozen=True, kw_only=True)
class Held(Link):
    hold: str
    def run(self, out: Path) -> None:
        if self.value == 2 and not Path(self.hold).exists():
            Path(self.hold).touch()
            time.sleep(600)
        super().run(out)
'''


def test_a_sweep_that_is_killed_goes_on_in_the_same_runs(user):
    (user / "held.py").write_text(HELD)
    sign = user / "sign"
    text = (user / "mine" / "dt" / "toy.yaml").read_text()
    text = text.replace("tests.toys.Link", "held.Held") + f"hold: {sign}\n"
    (user / "mine" / "dt" / "toy.yaml").write_text(text)
    command = [sys.executable, "-m", "dtx", "run", "-m", "--config-dir", "mine", *CHAIN]
    command += ["dt.value=1,2,3,4"]
    path = os.pathsep.join([str(user), str(ROOT)])
    started = subprocess.Popen(
        command, cwd=user, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.DEVNULL
    )
    while not sign.exists():
        assert started.poll() is None
        time.sleep(0.1)
    started.send_signal(signal.SIGKILL)
    started.wait()
    left = found(user, "job")
    assert {r.info.run_name: r.info.status for r in left} == {
        "value=1": "FINISHED",
        "value=2": "RUNNING",
    }
    subprocess.run(command, cwd=user, env={**os.environ, "PYTHONPATH": path}, check=True)
    jobs = found(user, "job")
    assert sorted(r.info.run_name for r in jobs) == [f"value={i}" for i in (1, 2, 3, 4)]
    assert {r.info.status for r in found(user) if "dtx.key" not in r.data.tags} == {"FINISHED"}
    assert len(found(user, "sweep")) == 1
    assert not [r for r in found(user) if r.info.status == "RUNNING"]
    assert {r.info.run_id for r in left} <= {r.info.run_id for r in jobs}
