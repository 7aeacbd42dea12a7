import os
import sqlite3

from dtx.cli import main
from dtx.running.runner import run
from tests.toys import Number, Sum

ONE, TWO = Number(value=1), Number(value=2)
TOTAL = Sum(left=ONE, right=TWO)


def track(store, capfd, *args: str) -> tuple[int, str]:
    """Exit status, and what was said."""
    capfd.readouterr()
    status = main(["track", "--store", str(store.root), *args])
    said = capfd.readouterr()
    return status, said.out + said.err


def in_status(store, capfd, *args: str) -> str:
    capfd.readouterr()
    assert main(["status", "--store", str(store.root), *args]) == 0
    said = capfd.readouterr()
    return said.out + said.err


def test_what_mlflow_lacks_is_told_then_mirrored_once(store, experiment_of, database, capfd):
    run(experiment_of(TOTAL))
    told = in_status(store, capfd)
    assert told.count("no run there") == 3 and "dtx track" in told
    assert f"sqlite:///{database}" in told
    status, said = track(store, capfd)
    assert status == 0 and "3 finished stages: 3 mirrored" in said
    assert "MLflow" not in in_status(store, capfd)
    assert "3 finished stages: 0 mirrored" in track(store, capfd)[1]


def test_runs_that_are_not_complete_or_deleted_are_told(store, experiment_of, database, capfd):
    run(experiment_of(TOTAL, tracking=True))
    one, two = (store.done(s)["mlflow"]["run_id"] for s in (ONE, TWO))
    with sqlite3.connect(database) as rows:
        rows.execute("UPDATE runs SET status = 'RUNNING' WHERE run_uuid = ?", [one])
        rows.execute("UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = ?", [two])
    told = in_status(store, capfd)
    assert f"{ONE.label}  its run there is not complete" in told
    assert "1 runs of finished stages were deleted" in told and "no run there" not in told
    status, said = track(store, capfd)
    assert status == 0 and "1 mirrored" in said and "1 deleted in MLflow stay so" in said


def test_the_list_is_limited(store, experiment_of, database, capfd):
    run(experiment_of(*[Number(value=v) for v in range(18)]))
    told = in_status(store, capfd)
    assert told.count("no run there") == 15 and "and 3 more (--all)" in told
    assert in_status(store, capfd, "--all").count("no run there") == 18


def test_a_database_that_cannot_be_read_is_one_line_in_status_too(
    store, experiment_of, database, capfd
):
    run(experiment_of(ONE))
    database.write_bytes(os.urandom(5000))
    told = in_status(store, capfd)
    assert "is damaged or no database" in told and "1 finished" in told
    status, said = track(store, capfd)
    assert status == 2 and len(said.splitlines()) == 1 and "mv " in said
    database.rename(f"{database}.old")
    status, said = track(store, capfd)
    assert status == 0 and "1 mirrored" in said


def test_another_place_and_experiment(store, experiment_of, database, tmp_path, capfd):
    run(experiment_of(ONE, tracking=True))
    uri = f"sqlite:///{tmp_path / 'other.db'}"
    (tmp_path / "other.db").write_bytes(database.read_bytes())
    with sqlite3.connect(tmp_path / "other.db") as rows:
        rows.execute("DELETE FROM runs")
        rows.execute("DELETE FROM tags")
    status, said = track(store, capfd, "--uri", uri, "--experiment", "mine")
    assert status == 0 and "1 mirrored" in said
    with sqlite3.connect(tmp_path / "other.db") as rows:
        query = "SELECT name FROM runs JOIN experiments USING (experiment_id)"
        assert rows.execute(query.replace("name", "experiments.name")).fetchall() == [("mine",)]


def test_a_damaged_artefact_is_told_and_left(store, experiment_of, database, capfd):
    run(experiment_of(ONE, TWO))
    (store.folder(ONE) / "value.txt").write_text("changed")
    status, said = track(store, capfd)
    assert status == 2 and f"dtx invalidate {ONE.label}" in said
    assert "2 finished stages: 1 mirrored" in said and "1 could not be mirrored" in said


def test_no_store_is_told(tmp_path, capfd):
    assert main(["track", "--store", str(tmp_path / "none")]) == 2
    assert "no store at" in capfd.readouterr().err
