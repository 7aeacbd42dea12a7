"""A sweep in a real database: one run a job, named by what is swept, with the same names everywhere."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from dtx.cli import main
from tests.toys import write_chain

ROOT = Path(__file__).parents[2]
CHAIN = ["agent=toy", "dataset=toy", "dt=toy", "analysis=[one,total]"]
GRID = ["agent.value=1,2", "dt.value=10,25"]
TOTAL = "# @package analysis.total\n_target_: tests.toys.Total\nof: ${dt}\n"


def write(folder: Path, made_database: Path) -> None:
    """Toy configs and a database without runs."""
    write_chain(folder / "mine")
    (folder / "mine" / "analysis" / "total.yaml").write_text(TOTAL)
    (folder / "mlflow.db").write_bytes(made_database.read_bytes())


@pytest.fixture
def user(tmp_path, monkeypatch, made_database):
    write(tmp_path, made_database)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, made_database):
    """A folder with a default run and a sweep of 4 jobs."""
    folder = tmp_path_factory.mktemp("finished")
    write(folder, made_database)
    with contextlib.chdir(folder):
        assert single() == 0 and sweep(*GRID) == 0
    return folder


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


def test_a_job_has_a_run_named_by_what_is_swept(finished):
    (parent,) = found(finished, "sweep")
    jobs = {r.info.run_name: r for r in found(finished, "job") if parent_of(r)}
    assert set(jobs) == {f"agent.value={a} dt.value={d}" for a in (1, 2) for d in (10, 25)}
    assert {parent_of(r) for r in jobs.values()} == {parent.info.run_id}
    (alone,) = [r for r in found(finished, "job") if not parent_of(r)]
    assert alone.info.run_name == f"memory_dt {' '.join(CHAIN)}"
    assert {r.info.status for r in found(finished)} == {"FINISHED"}
    job = jobs["agent.value=2 dt.value=25"]
    assert (job.data.params["agent.value"], job.data.params["dt.value"]) == ("2", "25")
    assert parent.data.params["agent.value"] == parent.data.params["dt.value"] == "(swept)"
    assert set(parent.data.params) == set(job.data.params) == set(alone.data.params)
    # Neither what the targets do not need, nor how the command works.
    assert not any(n.startswith(("store", "tracking", "pairs")) for n in job.data.params)


def test_stages_are_under_the_job_that_ran_them_with_the_same_names(finished):
    (parent,) = found(finished, "sweep")
    job = next(r for r in found(finished) if r.info.run_name == "agent.value=2 dt.value=25")
    stages = [r for r in found(finished) if "dtx.key" in r.data.tags]
    shared = Counter(r.data.tags["dtx.role"] for r in stages if parent_of(r) == parent.info.run_id)
    assert shared == {"before": 4}  # 2 agents and 2 datasets, each in the field `before`
    own = {r.data.tags["dtx.role"]: r for r in stages if parent_of(r) == job.info.run_id}
    assert {"one", "total"} <= set(own) and len(own) == 3
    total = own["total"]
    assert total.info.run_name == f"total {total.data.tags['dtx.key'][:6]}"
    assert total.data.params["dt.value"] == "25" and total.data.params["agent.value"] == "2"
    assert total.data.params.items() <= job.data.params.items()
    assert "analysis.one.value" not in total.data.params
    note = job.data.tags["mlflow.note.content"]
    assert "- **total** (ran): a total" in note and "(reused)" in note


def test_one_row_a_job_answers_which_setting_gave_which_result(finished, monkeypatch):
    """At most 40% of the cells of parameters and metrics are empty."""
    import mlflow
    import pandas as pd

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{finished}/mlflow.db")
    frame = mlflow.search_runs(experiment_names=["dtx"], filter_string="tags.`dtx.role` = 'job'")
    assert isinstance(frame, pd.DataFrame) and len(frame) == 5
    cells = frame[[c for c in frame.columns if c.startswith(("params.", "metrics."))]]
    assert cells.isna().to_numpy().mean() <= 0.4
    assert all("/" in c for c in cells.columns if c.startswith("metrics."))
    values = [frame[f"params.{name}.value"].astype(int) for name in ("agent", "dt")]
    assert sorted(values[1]) == [0, 10, 10, 25, 25]
    assert (frame["metrics.toys/total"] == values[0] + values[1]).all()
    assert "metrics.toys/half" not in frame  # no headline metric


def test_curves_are_stepped_metrics_of_the_job_and_of_what_is_swept(finished):
    client, (parent,) = client_of(finished), found(finished, "sweep")
    job = next(r for r in found(finished) if r.info.run_name == "agent.value=1 dt.value=10")

    def curve(run, name: str) -> list[tuple[int, float]]:
        return [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, name)]

    assert curve(job, "toys multiples/of the total") == [(0, 0.0), (1, 11.0), (2, 22.0)]
    by = "toys/total by dt.value/value"
    assert curve(parent, f"{by} 1") == [(10, 11.0), (25, 26.0)]
    assert curve(parent, f"{by} 2") == [(10, 12.0), (25, 27.0)]
    assert curve(parent, "toys/total by agent.value/value 25") == [(1, 26.0), (2, 27.0)]


def test_the_same_command_adds_no_run_and_jobs_that_are_cached_get_theirs(user):
    assert sweep(*GRID) == 0
    before = len(found(user))
    assert sweep(*GRID) == 0
    assert len(found(user)) == before
    # Another sweep over some of the jobs: a run for each.
    assert sweep("agent.value=1,2", "dt.value=10") == 0
    jobs = found(user, "job")
    assert len(found(user, "sweep")) == 2 and len(jobs) == 4 + 2
    assert len(found(user)) == before + 1 + 2
    cached = [r for r in jobs if r.data.tags["mlflow.note.content"].count("(reused)") == 5]
    assert len(cached) == 2 and {r.info.status for r in cached} == {"FINISHED"}
    assert sorted(r.data.metrics["toys/total"] for r in cached) == [11.0, 12.0]
    # A single run of one of the jobs is a command of its own.
    assert single("agent.value=1", "dt.value=10") == 0
    assert single("agent.value=1", "dt.value=10") == 0
    assert len([r for r in found(user, "job") if parent_of(r) is None]) == 1


def test_a_job_that_failed_says_why(user):
    assert sweep("dataset.fail=true", "dt.value=1,2") == 1  # a stage that both need
    jobs = found(user, "job")
    assert {r.info.run_name for r in jobs} == {"value=1", "value=2"}
    assert {r.info.status for r in found(user) if "dtx.key" not in r.data.tags} == {"FAILED"}
    assert all("told to fail at 0" in r.data.tags["dtx.error"] for r in jobs)
    assert single("dataset.fail=true") == 2
    (alone,) = [r for r in found(user, "job") if parent_of(r) is None]
    assert alone.data.tags["dtx.error"] == "told to fail at 0" and alone.info.status == "FAILED"


HELD = """
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
"""


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
