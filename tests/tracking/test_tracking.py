"""MLflow: real databases and a real dead server."""

import dataclasses
import json
import socket
import time
from pathlib import Path

import pytest

from dtx.errors import Interrupted, UserError
from dtx.running.runner import StagesFailed, run
from tests.toys import Number, Spread, Sum

ONE, TWO = Number(value=1), Number(value=2)


@pytest.fixture
def client(tmp_path):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    return lambda: MlflowClient(uri, registry_uri=uri)


def all_runs(client):
    return client.search_runs([client.get_experiment_by_name("tests").experiment_id])


def test_runs_are_nested_with_curves_lineage_and_description(store, experiment_of, client):
    total = Sum(left=ONE, right=TWO)
    run(experiment_of(total, tracking=True))
    client = client()
    found = {r.info.run_name: r for r in all_runs(client)}
    parent = found.pop("test")
    assert parent.info.status == "FINISHED"
    assert {r.data.tags["mlflow.parentRunId"] for r in found.values()} == {parent.info.run_id}
    assert {r.data.tags["dtx.key"] for r in found.values()} == {ONE.key, TWO.key, total.key}
    one = next(r for r in found.values() if r.data.tags["dtx.key"] == ONE.key)
    assert one.data.params["value"] == "1"
    points = client.get_metric_history(one.info.run_id, "toy/loss")
    assert [(p.step, p.value) for p in points] == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]
    assert parent.data.metrics["toy/value"] == 1.0  # of the first stage of that name
    assert "toys" in parent.data.tags["mlflow.note.content"]

    # Lineage: producer and consumer both carry the artefact's key as a dataset's digest.
    consumer = next(r for r in found.values() if r.data.tags["dtx.key"] == total.key)
    digests = {i.dataset.digest: i.tags[0].value for i in consumer.inputs.dataset_inputs}
    assert digests == {ONE.key: "left", TWO.key: "right", total.key: "produced"}
    assert {i.dataset.digest for i in one.inputs.dataset_inputs} == {ONE.key}
    assert store.done(ONE)["mlflow"]["run_id"] == one.info.run_id

    # A second, partly cached experiment links the cached stage and runs only the new one.
    run(experiment_of(Sum(left=ONE, right=ONE), tracking=True))
    later = [
        r
        for r in all_runs(client)
        if r.info.run_id not in {x.info.run_id for x in [parent, *found.values()]}
    ]
    assert len(later) == 2
    second = next(r for r in later if r.info.run_name == "test")
    assert {i.dataset.digest: i.tags[0].value for i in second.inputs.dataset_inputs}[
        ONE.key
    ] == "reused"


def test_parameters_may_have_any_name(store, experiment_of, client):
    raw = {"cells": {"key (2,6)": 1, "key (2;6)": 2}, "seed": 0}
    run(dataclasses.replace(experiment_of(ONE, tracking=True), raw=raw))
    parent = next(r for r in all_runs(client()) if r.info.run_name == "test")
    shown = {"cells.key _2_6_": "1", "cells.key _2_6__": "2", "seed": "0"}
    assert shown.items() <= parent.data.params.items()


def test_endings_are_told_and_a_killed_process_is_reconciled(store, experiment_of, client):
    with pytest.raises(Interrupted):
        run(experiment_of(Sum(left=ONE, right=TWO, fail="interrupt"), tracking=True))
    client = client()
    status = {r.info.run_name: r.info.status for r in all_runs(client)}
    assert status["test"] == "KILLED" and sorted(status.values()) == [
        "FINISHED",
        "FINISHED",
        "KILLED",
        "KILLED",
    ]
    with pytest.raises(StagesFailed, match="ZeroDivisionError: a defect"):
        run(experiment_of(Sum(left=ONE, right=TWO, fail="bug"), tracking=True))
    failed = [r for r in all_runs(client) if r.info.status == "FAILED"]
    assert len(failed) == 2
    stage = next(r for r in failed if "dtx.key" in r.data.tags)
    assert stage.data.tags["dtx.error"] == "a defect"
    assert [a.path for a in client.list_artifacts(stage.info.run_id)] == ["error.txt"]

    experiment = client.get_experiment_by_name("tests").experiment_id
    tags = {"dtx.host": socket.gethostname(), "dtx.process": "999999999:1"}
    orphan = client.create_run(experiment, tags=tags).info.run_id
    elsewhere = client.create_run(experiment, tags={**tags, "dtx.host": "another"}).info.run_id
    run(experiment_of(Number(value=3), tracking=True))
    assert client.get_run(orphan).info.status == "KILLED"
    assert client.get_run(elsewhere).info.status == "RUNNING"


def test_a_server_that_is_down_is_told_before_any_work(store, experiment_of):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
    start = time.monotonic()
    with pytest.raises(UserError) as error:
        run(experiment_of(ONE, tracking=True, uri=uri))
    assert time.monotonic() - start < 30
    message = str(error.value)
    assert (
        uri in message
        and "refused" in message
        and "tracking.enabled=false" in message
        and "\n" not in message
    )
    assert not store.has(ONE)


def test_a_server_lost_on_the_way_loses_no_result(store, experiment_of, monkeypatch):
    import mlflow

    def broken(*args, **kwargs):
        raise mlflow.MlflowException("database is gone")

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", broken)
    with pytest.raises(UserError, match="database is gone"):
        run(experiment_of(Sum(left=ONE, right=TWO), tracking=True))
    assert Sum(left=ONE, right=TWO).load() == 3
    # The same command again: all is there, and nothing is left to complain about.
    assert {o.status for o in run(experiment_of(Sum(left=ONE, right=TWO), tracking=True))} == {
        "reused"
    }


def test_tracking_off_touches_no_mlflow(store, experiment_of, tmp_path):
    run(dataclasses.replace(experiment_of(ONE)))
    assert not (tmp_path / "mlflow.db").exists()


def test_a_run_killed_between_commit_and_its_last_word_is_completed(store, experiment_of, client):
    """The artefact is there, so the stage is done: the next start sends what MLflow lacks."""
    run(experiment_of(ONE, tracking=True))
    client = client()
    made = next(r for r in all_runs(client) if r.data.tags.get("dtx.key") == ONE.key)
    tags = {**made.data.tags, "dtx.process": "999999999:1"}
    tags.pop("mlflow.note.content")
    killed = client.create_run(made.info.experiment_id, tags=tags).info.run_id
    client.log_metric(killed, "toy/loss", 1.0, step=0)
    store.amend(ONE, {"mlflow": {"run_id": killed}})
    run(experiment_of(TWO, tracking=True))
    completed = client.get_run(killed)
    assert completed.info.status == "FINISHED"
    assert completed.data.metrics["toy/value"] == 1.0
    assert "done.json" in {a.path for a in client.list_artifacts(killed)}
    curve = client.get_metric_history(killed, "toy/loss")
    assert [p.step for p in curve] == [0, 1, 2]  # the first was sent before the kill


def test_a_start_after_a_kill_finishes_the_experiment_even_if_nothing_is_left_to_run(
    store, experiment_of, client
):
    run(experiment_of(ONE))  # done, without a run in MLflow
    mark = store.root / ".tracking" / f"{socket.gethostname()}+999999999+1"
    mark.parent.mkdir()
    mark.touch()
    assert [o.status for o in run(experiment_of(ONE, tracking=True))] == ["reused"]
    stage, parent = sorted(all_runs(client()), key=lambda r: r.info.start_time)
    assert stage.data.tags["dtx.key"] == ONE.key and parent.info.run_name == "test"
    assert parent.info.status == "FINISHED" and not list(mark.parent.iterdir())
    run(experiment_of(ONE, tracking=True))
    assert len(all_runs(client())) == 2  # nothing to run, nothing killed: nothing to show


def test_runs_tell_where_a_result_comes_from(store, experiment_of, client):
    what = dataclasses.replace(experiment_of(ONE, tracking=True), overrides=("seed=3",))
    run(what)
    stage = next(r for r in all_runs(client()) if r.data.tags.get("dtx.key") == ONE.key)
    assert stage.data.tags["dtx.overrides"] == "seed=3"
    assert "hydra-core" in stage.data.tags["dtx.packages"]
    record = store.done(ONE)
    assert record["overrides"] == ["seed=3"]
    for name in ("seconds", "cpu_seconds", "peak_memory_mb"):
        assert stage.data.metrics[f"system/{name}"] == record[name] >= 0
    if record["git"]:  # not in an installed wheel
        assert stage.data.tags["mlflow.source.git.commit"] == record["git"]["sha"]


def test_an_analysis_run_has_its_result_and_says_whether_it_is_established(
    store, experiment_of, client
):
    sound, broken = Spread(of=ONE, error=0.0), Spread(of=ONE, error=3.0)
    run(experiment_of(sound, broken, tracking=True))
    client = client()
    found = {r.data.tags.get("dtx.key"): r for r in all_runs(client)}
    tags = {key: r.data.tags.get("dtx.established") for key, r in found.items()}
    assert (tags[sound.key], tags[broken.key], tags[ONE.key]) == ("true", "false", None)
    note = found[broken.key].data.tags["mlflow.note.content"]
    assert "check failed: a sum and its parts: 3 is above 1e-06" in note
    note = found[sound.key].data.tags["mlflow.note.content"]
    assert note == "spread 0.5; values spread: confirmed"
    assert found[sound.key].data.metrics["toys/spread"] == 0.5
    files = {a.path for a in client.list_artifacts(found[sound.key].info.run_id)}
    assert "result.json" in files
    parent = next(r for r in all_runs(client) if r.info.run_name == "test")
    table = json.loads(
        Path(client.download_artifacts(parent.info.run_id, "stages.json")).read_text()
    )
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    established = {row["key"]: row["established"] for row in rows}
    assert established == {sound.key: True, broken.key: False, ONE.key: None}


def test_a_deleted_experiment_is_told_with_two_ways_out(store, experiment_of, tmp_path, client):
    what = experiment_of(ONE, tracking=True, uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    run(what)
    found = client().get_experiment_by_name("tests")
    client().delete_experiment(found.experiment_id)
    again = dataclasses.replace(what, targets={"t0": TWO})
    with pytest.raises(
        UserError, match=r"'tests' was deleted .*restore -x .*tracking\.exp"
    ) as error:
        run(again)
    assert len(str(error.value).splitlines()) == 1 and not store.has(TWO)
    client().restore_experiment(found.experiment_id)
    assert [o.status for o in run(again)] == ["ran"]
    client().delete_experiment(found.experiment_id)
    named = dataclasses.replace(what.tracking, experiment="others")
    assert [o.status for o in run(dataclasses.replace(again, tracking=named))] == ["reused"]
