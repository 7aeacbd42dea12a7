"""The line with which `dtx run` ends: the address of a run, of a database and of a server."""

import dataclasses
import re

import pytest

from dtx.running.names import Names
from dtx.running.runner import run
from dtx.tracking import Job
from dtx.tracking.links import link, review
from tests.toys import Number, Sum

ONE, TWO = Number(value=1), Number(value=2)
TOTAL = Sum(left=ONE, right=TWO)


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("sqlite:////data/mlflow.db", "http://127.0.0.1:5000"),
        ("postgresql://me:hunter2@host/runs", "http://127.0.0.1:5000"),
        ("http://host:5001", "http://host:5001"),
        ("https://me:hunter2@host/mlflow/", "https://host/mlflow"),
    ],
)
def test_the_address_of_a_run_and_of_the_list(uri, address):
    assert link(uri, "3", "abc") == (
        f"{address}/#/experiments/3/runs/abc?workflowType=machine_learning"
    )
    assert link(uri, "3") == f"{address}/#/experiments/3/runs?workflowType=machine_learning"


def command_of(what):
    return lambda: Job(Names(what)).command


@pytest.fixture
def place(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(line):
    found = re.fullmatch(
        r"review: (.+), then http://127\.0\.0\.1:5000/#/experiments/\d+/runs/(\w+)\?workflowType=\w+",
        line,
    )
    return found.groups()


def test_the_run_of_the_command_is_shown(store, experiment_of, database, place, monkeypatch):
    from mlflow import MlflowClient

    what = experiment_of(TOTAL, tracking=True)
    assert review(what.tracking, command_of(what)) == "review: dtx ui, then http://127.0.0.1:5000"
    run(what)
    of, first = shown(review(what.tracking, command_of(what)))
    assert of == "dtx ui"
    client = MlflowClient(f"sqlite:///{database}")
    assert client.get_run(first).data.tags["dtx.role"] == "job"
    # Another experiment of the same stages has its own run; given again, each has the same.
    other = experiment_of(ONE, tracking=True)
    run(other)
    second = shown(review(other.tracking, command_of(other)))[1]
    assert second != first
    run(what)
    assert shown(review(what.tracking, command_of(what)))[1] == first
    client.delete_run(second)
    assert review(other.tracking, command_of(other)) == "review: dtx ui, then http://127.0.0.1:5000"
    # From another folder, `dtx ui` needs to be told where.
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    assert shown(review(what.tracking, command_of(what))) == (
        f"dtx ui --uri sqlite:///{database}",
        first,
    )


def test_a_run_that_mlflow_does_not_know_leaves_the_list(store, experiment_of, database, place):
    what = experiment_of(ONE, tracking=True)
    run(what)
    database.unlink()
    assert review(what.tracking, command_of(what)) == "review: dtx ui, then http://127.0.0.1:5000"
    database.write_bytes(b"garbage" * 1000)
    assert review(what.tracking, command_of(what)) == "review: dtx ui, then http://127.0.0.1:5000"


def test_a_server_that_is_down_leaves_its_address(store, experiment_of, database, place):
    from tests.servers import free_port

    what = experiment_of(ONE, tracking=True)
    run(what)
    uri = f"http://me:hunter2@127.0.0.1:{free_port()}"
    there = dataclasses.replace(what, tracking=dataclasses.replace(what.tracking, uri=uri))
    assert (
        review(there.tracking, command_of(there))
        == f"review: http://127.0.0.1:{uri.rpartition(':')[2]}"
    )
