"""Databases that MLflow cannot work with: one line and a way out for each, before anything runs."""

import os
import sqlite3
from pathlib import Path

import pytest

from dtx.config.compose import TrackingConfig
from dtx.errors import UserError
from dtx.running.runner import run
from dtx.tracking import Server
from dtx.tracking.database import known_runs
from dtx.tracking.lacking import _served_runs
from dtx.tracking.server import client_of
from tests.toys import Number, Sum

ONE, TWO = Number(value=1), Number(value=2)


def damage(database: Path, kind: str) -> None:
    """Put something else where the database is."""
    if kind == "garbage":
        database.write_bytes(os.urandom(5000))
    elif kind == "cut":
        database.write_bytes(database.read_bytes()[:5000])
    elif kind == "text":
        database.write_text("version https://git-lfs.github.com/spec/v1\n")
    else:
        database.unlink()
    if kind == "folder":
        database.mkdir()
    elif kind == "pipe":
        os.mkfifo(database)
    elif kind == "another program's":
        with sqlite3.connect(database) as other:
            other.execute("CREATE TABLE recipes (name)")


KINDS = ["garbage", "cut", "text", "folder", "pipe", "another program's"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_database_of_mlflow_is_told_before_anything_runs(
    store, experiment_of, database, kind
):
    damage(database, kind)
    content = database.read_bytes() if database.is_file() else b""
    with pytest.raises(UserError) as told:
        run(experiment_of(ONE, tracking=True))
    line = str(told.value)
    assert "\n" not in line and str(database) in line and "tracking.enabled=false" in line
    assert ("dtx track" in line) == database.is_file() and not store.has(ONE)
    assert not database.is_file() or database.read_bytes() == content
    # The way out.
    database.rename(f"{database}.old")
    run(experiment_of(ONE, tracking=True))


@pytest.mark.parametrize("kind", ["garbage", "cut", "folder"])
def test_it_is_told_as_well_if_everything_is_reused_but_costs_nothing(
    store, experiment_of, database, capfd, kind
):
    run(experiment_of(ONE))
    damage(database, kind)
    assert [o.status for o in run(experiment_of(ONE, tracking=True))] == ["reused"]
    told = capfd.readouterr().err
    assert told.count(str(database)) >= 1 and "Traceback" not in told
    assert "move it aside" in told or "dtx track" in told


def test_an_empty_file_is_filled(store, experiment_of, database):
    database.write_bytes(b"")
    run(experiment_of(ONE, tracking=True))
    assert known_runs(database, [], [ONE.key])[0].status == "FINISHED"


def test_a_lock_is_told(store, experiment_of, database, monkeypatch):
    monkeypatch.setattr("dtx.tracking.database._WAIT_SECONDS", 0.2)
    with sqlite3.connect(database, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match="locked by another program"):
            run(experiment_of(ONE, tracking=True))
        other.execute("ROLLBACK")
    assert not store.has(ONE)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_database_that_is_read_only_is_told(store, experiment_of, database):
    database.chmod(0o444)
    with pytest.raises(UserError, match="cannot be opened for writing"):
        run(experiment_of(ONE, tracking=True))


def test_tables_of_another_mlflow_are_told_with_what_mends_each(store, experiment_of, database):
    with sqlite3.connect(database) as rows:
        (now,) = rows.execute("SELECT version_num FROM alembic_version").fetchone()
    import mlflow

    changes = (Path(mlflow.__file__).parent / "store/db_migrations/versions").glob("*_*.py")
    older = next(name for p in sorted(changes) if (name := p.name.split("_")[0]) != now)
    for version, mends in ((older, "mlflow db upgrade"), ("ffffffffffff", "pip install -U")):
        with sqlite3.connect(database) as rows:
            rows.execute("UPDATE alembic_version SET version_num = ?", [version])
        with pytest.raises(UserError) as told:
            run(experiment_of(ONE, tracking=True))
        assert mends in str(told.value) and "\n" not in str(told.value)
    assert not store.has(ONE)


def test_files_kept_where_they_cannot_be_are_told(store, experiment_of, database, tmp_path):
    """The project was moved, or the database is another machine's."""
    run(experiment_of(ONE, tracking=True))
    moved = tmp_path / "moved" / "mlartifacts"
    with sqlite3.connect(database) as rows:
        rows.execute("UPDATE experiments SET artifact_location = ?", [moved.as_uri()])
    with pytest.raises(UserError) as told:
        run(experiment_of(TWO, tracking=True))
    assert f"{moved}, which is not here" in str(told.value) and "\n" not in str(told.value)
    assert not moved.parent.exists() and not store.has(TWO)
    moved.mkdir(parents=True)
    run(experiment_of(TWO, tracking=True))


def test_an_experiment_that_is_gone_for_good_is_made_again(store, experiment_of, database):
    run(experiment_of(ONE, tracking=True))
    with sqlite3.connect(database) as rows:  # as `mlflow gc` does
        (number,) = rows.execute(
            "SELECT experiment_id FROM experiments WHERE name = 'tests'"
        ).fetchone()
        for table in ("metrics", "latest_metrics", "params", "tags", "datasets", "inputs", "runs"):
            rows.execute(f"DELETE FROM {table}")
        for table in ("experiment_tags", "experiments"):
            rows.execute(f"DELETE FROM {table} WHERE experiment_id = ?", [number])
    run(experiment_of(ONE, tracking=True))
    assert known_runs(database, [], [ONE.key])[0].status == "FINISHED"


def test_a_server_is_asked_as_a_database_is(store, experiment_of, database):
    """The same database, through MLflow's client and without it."""
    total = Sum(left=ONE, right=TWO)
    run(experiment_of(total, tracking=True))
    server = Server(TrackingConfig(enabled=True, uri=f"sqlite:///{database}", experiment="tests"))
    ids = [store.done(s)["mlflow"]["run_id"] for s in (ONE, TWO, total)]
    server.client.delete_run(ids[0])
    server.client.update_run(ids[1], "KILLED")
    keys = [ONE.key, TWO.key, total.key]
    client = client_of(server.uri)
    for asked in ((ids, keys), (ids[:1], keys[1:]), ([], keys), ([], []), (["none"], ["none"])):
        by_client, by_file = _served_runs(client, *asked), known_runs(database, *asked)
        assert {r.run_id: r for r in by_file} == {r.run_id: r for r in by_client}
    assert {(r.status, r.deleted) for r in by_file} == set()


def test_a_database_that_is_deleted_as_a_run_begins_is_one_line(tmp_path, store):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    server = Server(TrackingConfig(enabled=True, uri=uri, experiment="tests"))
    server.start("first", {})
    for path in tmp_path.glob("mlflow.db*"):
        path.unlink()
    with pytest.raises(UserError, match=r"MLflow at .* failed \(.*readonly.*\); mend that"):
        server.start("second", {})
