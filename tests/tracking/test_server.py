"""MLflow as a group uses it: a real `mlflow server` on a real PostgreSQL, against real `dtx` processes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dtx.cli import main
from dtx.config.compose import TrackingConfig
from dtx.running import runner
from dtx.tracking.server import Server as Connection
from tests.servers import Server, free_port, mlflow_server, postgres, postgres_lacks
from tests.toys import Number

ROOT = Path(__file__).absolute().parents[2]
SIZES = "points: 20, curves: 3, rows: 4, weights_kb: 1, figure: true"
TOY = f"""# @package analysis.toy
_target_: tests.reporting.Reporting
number: 3
sources:
  - {{_target_: tests.reporting.Reporting, number: 1, sources: [], until: "", {SIZES}}}
  - {{_target_: tests.reporting.Reporting, number: 2, sources: [], until: "", {SIZES}}}
until: ""
""" + SIZES.replace(", ", "\n")
# What differs between two runs of the same thing: processes, places and times.
PASSING = re.compile(
    r"dtx\.(process|path|host)|mlflow\.(parentRunId|user|runName)|.*seconds.*|.*memory.*"
)
needs_postgres = pytest.mark.skipif(bool(postgres_lacks()), reason=postgres_lacks())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server on an empty database; the last test kills it."""
    with (
        postgres() as database,
        mlflow_server(database(), tmp_path_factory.mktemp("server")) as running,
    ):
        yield running


@pytest.fixture
def user(tmp_path):
    """Make a user's folder with a config of their own."""

    def make(name: str) -> Path:
        folder = tmp_path / name
        (folder / "mine" / "analysis").mkdir(parents=True)
        (folder / "mine" / "analysis" / "toy.yaml").write_text(TOY)
        return folder

    return make


def dtx(folder: Path, uri: str | None, *overrides: str) -> subprocess.Popen:
    """Start `dtx run` of the toy as a user with MLFLOW_TRACKING_URI would."""
    command = [sys.executable, "-m", "dtx", "run", "--config-dir", "mine", "analysis=[toy]"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300"}
    if uri is not None:
        env["MLFLOW_TRACKING_URI"] = uri
    return subprocess.Popen(
        [*command, *overrides], cwd=folder, env=env, stderr=subprocess.PIPE, text=True
    )


def ended(job: subprocess.Popen) -> tuple[int, str]:
    """Exit status and what was said."""
    _, error = job.communicate(timeout=240)
    return job.returncode, error


def client_of(uri: str):
    from mlflow import MlflowClient

    return MlflowClient(uri, registry_uri=uri)


def runs_of(client, name: str = "dtx") -> list:
    found = client.search_runs([client.get_experiment_by_name(name).experiment_id])
    return [client.get_run(r.info.run_id) for r in found]  # a search leaves out the models read


def files_of(client, run_id: str, folder: str | None = None) -> list[str]:
    paths = []
    for entry in client.list_artifacts(run_id, folder):
        paths += files_of(client, run_id, entry.path) if entry.is_dir else [entry.path]
    return sorted(paths)


def content(client, run_id: str, path: str, scratch: Path) -> str:
    """A digest of what is shown; of ``done.json`` and the like only that it can be read."""
    scratch.mkdir(parents=True, exist_ok=True)
    file = Path(client.download_artifacts(run_id, path, str(scratch)))
    if path.startswith(("figures/", "tables/")):
        return hashlib.sha256(file.read_bytes()).hexdigest()
    return "text" if file.read_text() else "empty"


def shape(client, scratch: Path) -> dict[str, dict]:
    """All that MLflow shows of the experiment's runs, without ids, times and places."""
    runs = runs_of(client)
    names = {r.info.run_id: r.info.run_name for r in runs}
    shown = {}
    for run in runs:
        run_id, inputs, outputs = run.info.run_id, run.inputs, run.outputs
        metrics = {
            name: [(p.step, p.value) for p in client.get_metric_history(run_id, name)]
            for name in run.data.metrics
            if not PASSING.match(name)
        }
        models = [client.get_logged_model(m.model_id) for m in inputs.model_inputs]
        made = [client.get_logged_model(m.model_id) for m in outputs.model_outputs]
        shown[run.info.run_name] = {
            "status": run.info.status,
            "parent": names.get(run.data.tags.get("mlflow.parentRunId")),
            "params": run.data.params,
            "metrics": metrics,
            "tags": {k: v for k, v in run.data.tags.items() if not PASSING.match(k)},
            "files": {
                path: content(client, run_id, path, scratch / run_id)
                for path in files_of(client, run_id)
            },
            "datasets": sorted(
                (i.dataset.name, i.dataset.digest, i.tags[0].value) for i in inputs.dataset_inputs
            ),
            "models read": sorted(m.name for m in models),
            "models made": sorted((m.name, str(m.status), m.tags["dtx.key"]) for m in made),
        }
    assert len(shown) == len(runs)  # names are unique in one experiment's run
    return shown


@needs_postgres
@pytest.mark.timeout(300)
def test_a_server_on_postgres_shows_what_sqlite_shows(server, user, tmp_path):
    plain, served = user("plain"), user("served")
    jobs = [dtx(plain, None), dtx(served, server.uri)]
    said = []
    for status, error in map(ended, jobs):
        assert status == 0, error
        said.append(error)
    expected = shape(client_of(f"sqlite:///{plain / 'mlflow.db'}"), tmp_path / "a")
    assert re.search(rf"review: {server.uri}/#/experiments/\d+/runs/\w+\?", said[1])
    found = shape(client_of(server.uri), tmp_path / "b")
    assert found == expected
    # It is all there, and not equal by being empty on both sides.
    parent = found.pop("memory_dt analysis=[toy]")
    assert parent["status"] == "FINISHED" and "figures/returns.png" in parent["files"]
    assert len(found) == 3
    for stage in found.values():
        assert stage["parent"] == "memory_dt analysis=[toy]" and stage["models made"]
        assert [step for step, _ in stage["metrics"]["train/curve_2"]] == list(range(20))
        assert {"figures/returns.png", "tables/returns.json", "tables/returns.parquet"} <= set(
            stage["files"]
        )
    last = next(s for s in found.values() if s["params"].get("analysis.toy.number") == "3")
    assert len(last["models read"]) == 2 and not last["datasets"]
    assert last["tags"]["dtx.inputs"].count("reporting-") == 2
    # The artefacts went through the server into its own folder; the user's has none.
    assert list(server.artifacts.rglob("returns.png")) and not (served / "mlartifacts").exists()
    assert not (served / "mlflow.db").exists()


@needs_postgres
@pytest.mark.timeout(300)
def test_four_processes_at_once_on_a_fresh_server(server, user):
    """They share a store too: each stage runs once. One that begins when another has ended takes its run."""
    folder = user("group")
    jobs = [dtx(folder, server.uri, "tracking.experiment=group") for _ in range(4)]
    for status, error in map(ended, jobs):
        assert status == 0, error
    runs = runs_of(client_of(server.uri), "group")
    assert {r.info.status for r in runs} == {"FINISHED"}
    keys = [r.data.tags["dtx.key"] for r in runs if "dtx.key" in r.data.tags]
    assert len(keys) == len(set(keys)) == 3
    assert 1 <= sum("dtx.key" not in r.data.tags for r in runs) <= 4


@needs_postgres
def test_a_new_experiment_is_made_once_by_many_at_once(server):
    for name in ("first", "second", "third", "fourth"):
        config = TrackingConfig(enabled=True, uri=server.uri, experiment=name)
        with ThreadPoolExecutor(8) as pool:
            found = set(pool.map(lambda _, c=config: Connection(c).experiment_id, range(8)))
        assert len(found) == 1


@needs_postgres
def test_what_is_mirrored_to_a_server_is_told_without_its_password(
    server, store, experiment_of, capfd
):
    runner.run(experiment_of(Number(value=1)))
    uri = server.uri.replace("://", "://me:hunter2@")
    assert main(["track", "--store", str(store.root), "--uri", uri]) == 0
    said = capfd.readouterr()
    assert "1 mirrored to http://***@127.0.0.1" in said.out
    assert "hunter2" not in said.out + said.err


def test_a_server_that_is_down_is_one_line_within_seconds(user):
    uri = f"http://127.0.0.1:{free_port()}"
    folder = user("down")
    start = time.monotonic()
    status, error = ended(dtx(folder, uri))
    assert status == 2 and time.monotonic() - start < 60  # MLflow's own patience is minutes
    assert len(error.splitlines()) == 1 and uri in error and "refused" in error, error
    assert not list((folder / "store").glob("reporting-*"))


@needs_postgres
@pytest.mark.timeout(300)
def test_a_server_that_dies_in_the_middle_costs_no_work(server, user):
    folder = user("lost")
    go_on = folder / "go-on"
    job = dtx(folder, server.uri, "tracking.experiment=lost", f"analysis.toy.until={go_on}")
    running_stage(server, job)
    server.kill()
    go_on.touch()
    status, error = ended(job)
    assert status == 2 and "Traceback" not in error, error
    told = [line for line in error.splitlines() if line.startswith("dtx: ")]
    assert len(told) == 1 and server.uri in told[0] and "complete" in told[0], error
    # All artefacts are whole: checksums hold, and the curve has no gap.
    stages = sorted((folder / "store").glob("reporting-*"))
    assert len(stages) == 3
    for stage in stages:
        record = json.loads((stage / "done.json").read_text())
        for name, (size, digest) in record["files"].items():
            data = (stage / name).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (size, digest)
        steps = [json.loads(x)["step"] for x in (stage / "curves.jsonl").read_text().splitlines()]
        assert steps == list(range(20))


def running_stage(server: Server, job: subprocess.Popen) -> None:
    """Wait until the last stage's run is open and has its first points."""
    client = client_of(server.uri)
    while True:
        time.sleep(0.2)
        assert job.poll() is None, job.stderr.read()
        if client.get_experiment_by_name("lost") is None:
            continue
        found = [
            r for r in runs_of(client, "lost") if r.data.params.get("analysis.toy.number") == "3"
        ]
        if found and "train/curve_0" in found[0].data.metrics:
            return
