"""Lost tracking is made up for: real databases that are deleted, locked, filled again."""

import dataclasses
import hashlib
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dtx.config.compose import TrackingConfig
from dtx.errors import UserError
from dtx.running.runner import run
from dtx.store.inventory import artefacts
from dtx.tracking import Server, lacking, make_up
from dtx.tracking.stage_run import Results
from tests.reporting import Reporting
from tests.toys import Number, Spread, Sum

ONE, TWO = Number(value=1), Number(value=2)
TOTAL = Sum(left=ONE, right=TWO)
SOURCE = Reporting(number=1, figure=False)
FULL = Reporting(number=2, sources=(SOURCE,), figure=True)
OF_A_PROCESS = ("mlflow.parentRunId", "mlflow.user")


def client_of(database: Path):
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{database}", registry_uri=f"sqlite:///{database}")


def stage_runs(database: Path) -> list:
    """The active runs of stages, with the models that they read and made."""
    client = client_of(database)
    found = client.search_runs([e.experiment_id for e in client.search_experiments()])
    return [client.get_run(r.info.run_id) for r in found if "dtx.key" in r.data.tags]


def shown(database: Path, scratch: Path) -> dict[str, dict]:
    """All that MLflow shows of stages, by key, without the ids of runs and models."""
    client, all_shown = client_of(database), {}
    for run_ in stage_runs(database):
        run_id, model = run_.info.run_id, client.get_logged_model
        folder = scratch / "downloaded"
        folder.mkdir()
        client.download_artifacts(run_id, "", str(folder))
        files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
        all_shown[run_.data.tags["dtx.key"]] = {
            "name": run_.info.run_name,
            "status": run_.info.status,
            "params": run_.data.params,
            "curves": {
                name: [(p.step, p.value) for p in client.get_metric_history(run_id, name)]
                for name in run_.data.metrics
            },
            "tags": {k: v for k, v in run_.data.tags.items() if k not in OF_A_PROCESS},
            "files": {
                name: hashlib.sha256(path.read_bytes()).hexdigest()
                for name, path in files.items()
                if name != "done.json"  # names the run
            },
            "record": "done.json" in files,
            "inputs": sorted(
                (i.dataset.name, i.dataset.digest, i.dataset.source, i.tags[0].value)
                for i in run_.inputs.dataset_inputs
            ),
            "read": sorted(model(m.model_id).name for m in run_.inputs.model_inputs),
            "made": sorted(model(m.model_id).name for m in run_.outputs.model_outputs),
        }
        shutil.rmtree(folder)
    return all_shown


def connect(database: Path) -> Server:
    uri = f"sqlite:///{database}"
    return Server(TrackingConfig(enabled=True, uri=uri, experiment="tests"))


def count(database: Path) -> dict[str, int]:
    """Rows of every table that a run fills."""
    tables = ("runs", "params", "metrics", "tags", "inputs", "datasets", "logged_models")
    with sqlite3.connect(database) as rows:
        return {t: rows.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables}


def test_a_deleted_database_is_filled_again_with_what_was_shown_live(
    store, experiment_of, database, made_database, tmp_path
):
    what = experiment_of(FULL, Spread(of=ONE, error=0.0), tracking=True)
    run(what)
    live = shown(database, tmp_path)
    assert len(live) == 4 and live[FULL.key]["read"] == [SOURCE.label]
    assert live[FULL.key]["made"] == [FULL.label] and len(live[FULL.key]["files"]) >= 3
    shutil.copy(made_database, database)  # all runs are gone
    assert [o.status for o in run(what)] == ["reused"] * 4
    assert shown(database, tmp_path) == live
    before = count(database)
    run(what)
    assert make_up(connect(database), artefacts(store.root)) == []
    assert count(database) == before
    # The runs stand where they stood in time.
    for run_ in stage_runs(database):
        assert run_.info.start_time <= run_.info.end_time
        assert run_.info.end_time // 1000 <= artefacts(store.root)[0].finished


def test_a_missing_database_is_made_and_filled(store, experiment_of, tmp_path):
    what = experiment_of(TOTAL, tracking=True)
    run(dataclasses.replace(what, tracking=dataclasses.replace(what.tracking, enabled=False)))
    # SQLite would play this back into the new database.
    (tmp_path / "mlflow.db-wal").write_bytes(b"left of a deleted database")
    run(what)
    assert {r.data.tags["dtx.key"] for r in stage_runs(tmp_path / "mlflow.db")} == {
        ONE.key,
        TWO.key,
        TOTAL.key,
    }


def locked(database: Path) -> Callable[[], object]:
    """Lock it, as a backup or a browser of databases does; gives what ends that."""
    other = sqlite3.connect(database, isolation_level=None, timeout=60, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    return other.close


def overwritten(database: Path) -> Callable[[], object]:
    """Overwrite it in place; gives what puts a backup back."""
    backup = database.with_name("backup")
    shutil.copy(database, backup)
    database.write_bytes(b"garbage" * 1000)
    return lambda: shutil.copy(backup, database)


@pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(locked, marks=pytest.mark.slow),  # MLflow waits 20 s for a lock
        overwritten,
    ],
)
def test_a_database_that_is_lost_during_a_run_is_filled_by_the_next(
    store, experiment_of, database, tmp_path, break_it, capfd
):
    go_on, mend = tmp_path / "go-on", []
    slow = Reporting(number=5, figure=False, until=str(go_on))
    reader = Reporting(number=6, figure=False, sources=(slow,))

    def interfere() -> None:
        while not list(store.root.glob(".work/*/curves.jsonl")):
            time.sleep(0.05)
        mend.append(break_it(database))
        go_on.touch()

    thread = threading.Thread(target=interfere)
    thread.start()
    with pytest.raises(UserError, match=r"next `dtx run`, or `dtx track`") as told:
        run(experiment_of(reader, tracking=True))
    thread.join()
    mend[0]()
    assert "\n" not in str(told.value) and store.has(reader)
    assert "Traceback" not in capfd.readouterr().err
    assert {o.status for o in run(experiment_of(reader, tracking=True))} == {"reused"}
    found = {r.data.tags["dtx.key"]: r.info.status for r in stage_runs(database)}
    assert found == {slow.key: "FINISHED", reader.key: "FINISHED"}
    client = client_of(database)
    for run_ in stage_runs(database):
        steps = [p.step for p in client.get_metric_history(run_.info.run_id, "train/curve_0")]
        assert steps == [0, 1, 2]


def test_a_folder_for_files_that_cannot_be_used_is_told_and_mended_later(
    store, experiment_of, database, tmp_path
):
    files = tmp_path / "mlartifacts"
    run(experiment_of(ONE, tracking=True))
    shutil.rmtree(files)
    files.write_text("in the way")
    with pytest.raises(UserError, match=r"mlartifacts.*cannot be written.*tracking\.experiment="):
        run(experiment_of(TOTAL, tracking=True))
    assert not store.has(TOTAL)
    files.unlink()
    run(experiment_of(TOTAL, tracking=True))
    assert {r.info.status for r in stage_runs(database)} == {"FINISHED"}


def test_a_run_of_a_stage_that_was_committed_is_completed_once(
    store, experiment_of, database, tmp_path
):
    """As a kill leaves it after the commit, after some of the results, or after all but the last word."""
    run(experiment_of(FULL, tracking=True))
    live = shown(database, tmp_path)
    run_id = store.done(FULL)["mlflow"]["run_id"]
    client = client_of(database)
    for status in ("RUNNING", "KILLED", "FAILED"):
        client.update_run(run_id, status)
        before = count(database)
        assert {a.label for a in lacking(connect(database).uri, artefacts(store.root)).incomplete}
        assert make_up(connect(database), artefacts(store.root)) == [FULL.label]
        assert count(database) == before and shown(database, tmp_path) == live
    # Killed when only the parameters were there.
    with sqlite3.connect(database) as rows:
        for table in ("metrics", "latest_metrics"):
            rows.execute(f"DELETE FROM {table} WHERE run_uuid = ?", [run_id])
        rows.execute("UPDATE runs SET status = 'RUNNING' WHERE run_uuid = ?", [run_id])
    make_up(connect(database), artefacts(store.root))
    assert shown(database, tmp_path) == live


def test_a_mirror_that_is_killed_half_way_goes_on_with_the_same_runs(
    store, experiment_of, database, monkeypatch
):
    run(experiment_of(TOTAL))
    with monkeypatch.context() as patch:
        patch.setattr(Results, "log", _die)
        with pytest.raises(KeyboardInterrupt):
            make_up(connect(database), artefacts(store.root)[::-1])
    (begun,) = stage_runs(database)
    assert begun.info.status == "RUNNING"
    assert len(make_up(connect(database), artefacts(store.root)[::-1])) == 3
    found = stage_runs(database)
    assert len(found) == 3 and {r.info.status for r in found} == {"FINISHED"}
    assert begun.info.run_id in {r.info.run_id for r in found}


def _die(*_, **__):
    raise KeyboardInterrupt


def test_two_at_once_do_not_double(store, experiment_of, database):
    stages = [Number(value=v) for v in range(6)]
    run(experiment_of(*stages))
    servers = [connect(database) for _ in range(3)]
    with ThreadPoolExecutor(
        3
    ) as pool:  # a lock of a stage holds between threads as between processes
        done = pool.map(lambda server: make_up(server, artefacts(store.root)), servers)
    assert sorted(label for some in done for label in some) == sorted(s.label for s in stages)
    found = [r.data.tags["dtx.key"] for r in stage_runs(database)]
    assert sorted(found) == sorted(s.key for s in stages)


def test_what_another_process_works_on_is_left_to_it(store, experiment_of, database):
    run(experiment_of(ONE, TWO))
    with store.lock(ONE):
        assert make_up(connect(database), artefacts(store.root)) == [TWO.label]
    assert make_up(connect(database), artefacts(store.root)) == [ONE.label]


def test_a_run_that_somebody_deleted_stays_deleted(store, experiment_of, database):
    what = experiment_of(TOTAL, tracking=True)
    run(what)
    client = client_of(database)
    client.delete_run(store.done(ONE)["mlflow"]["run_id"])
    assert {o.status for o in run(what)} == {"reused"}
    assert lacking(connect(database).uri, artefacts(store.root)).deleted == [ONE.label]
    assert ONE.key not in {r.data.tags["dtx.key"] for r in stage_runs(database)}
    store.amend(ONE, {"mlflow": {}})  # pulled, say: found by its key all the same
    assert lacking(connect(database).uri, artefacts(store.root)).deleted == [ONE.label]
    # Made anew, it is shown anew.
    store.invalidate(ONE.label)
    run(experiment_of(ONE, tracking=True))
    assert ONE.key in {r.data.tags["dtx.key"] for r in stage_runs(database)}


def test_a_stage_that_is_shown_elsewhere_on_the_server_is_not_shown_twice(
    store, experiment_of, database
):
    run(experiment_of(ONE, tracking=True))
    store.amend(ONE, {"mlflow": {"uri": "http://elsewhere", "run_id": "0" * 32}})
    what = experiment_of(ONE, tracking=True)
    run(
        dataclasses.replace(what, tracking=dataclasses.replace(what.tracking, experiment="another"))
    )
    assert len(stage_runs(database)) == 1


def test_a_record_that_names_the_run_of_another_stage_does_not_touch_it(
    store, experiment_of, database
):
    run(experiment_of(ONE, TWO, tracking=True))
    run_id = store.done(ONE)["mlflow"]["run_id"]
    client_of(database).update_run(run_id, "RUNNING")
    store.amend(TWO, {"mlflow": {"run_id": run_id}})
    make_up(connect(database), [a for a in artefacts(store.root) if a.label == TWO.label])
    assert client_of(database).get_run(run_id).data.params["value"] == "1"
    assert client_of(database).get_run(run_id).info.status == "RUNNING"


def test_one_damaged_artefact_does_not_cost_the_others(store, experiment_of, database, capfd):
    run(experiment_of(FULL, TWO))
    table = next((store.folder(SOURCE) / "tables").glob("*.parquet"))
    table.write_bytes(b"damaged")
    assert set(make_up(connect(database), artefacts(store.root))) == {FULL.label, TWO.label}
    told = capfd.readouterr().err
    assert f"dtx invalidate {SOURCE.label}" in told and "Traceback" not in told


def test_the_run_of_a_process_that_lost_the_server_is_ended_by_the_next(
    store, experiment_of, database
):
    what = experiment_of(ONE, tracking=True)
    run(what)
    client = client_of(database)
    host, experiment = socket.gethostname(), client.get_experiment_by_name("tests").experiment_id
    tags = {"dtx.host": host, "dtx.process": "999999999:1"}
    lost = client.create_run(experiment, tags=tags).info.run_id
    (store.root / ".tracking" / f"{host}+999999999+1").touch()  # it stays when the server is lost
    run(what)
    assert client.get_run(lost).info.status == "KILLED"


def test_names_of_metrics_that_mlflow_refuses_are_shown_under_others(
    store, experiment_of, database
):
    run(experiment_of(Number(value=3), tracking=True))
    server = connect(database)
    run_id = server.start("odd", {})
    server.log_metrics(run_id, [("return (mean), 50%", 1.0, 0)])
    assert client_of(database).get_run(run_id).data.metrics == {"return _mean__ 50_": 1.0}
