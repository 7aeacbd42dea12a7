"""What lets somebody in is nowhere that dtx writes or prints: everything is searched."""

import dataclasses
import secrets
from pathlib import Path

import pytest

from dtx.cli import main
from dtx.running.runner import run
from dtx.store.inventory import remember_run
from tests.toys import Number, Sum

SECRET = secrets.token_hex(8)
"""Drawn anew: uncommitted changes of this file are recorded, too."""
URL = f"http://me:{SECRET}@127.0.0.1:9/x"


def holding(folder: Path) -> list[str]:
    """Files below a folder that hold the secret, in whatever form they are."""
    return [
        str(path)
        for path in folder.rglob("*")
        if path.is_file() and SECRET.encode() in path.read_bytes()
    ]


def test_the_search_finds_it(tmp_path):
    (tmp_path / "a.db").write_bytes(b"\0\1" + URL.encode())
    assert holding(tmp_path) == [str(tmp_path / "a.db")]


def test_a_run_with_a_secret_in_config_and_overrides_writes_it_nowhere(
    store, experiment_of, tmp_path, capfd
):
    stage = Sum(left=Number(value=1), right=Number(value=2), fail=URL)
    what = dataclasses.replace(
        experiment_of(stage, tracking=True, uri=f"sqlite:///{tmp_path}/mlflow.db"),
        raw={
            "seed": 0,
            "store": {"remote": f"s3://key:{SECRET}@bucket/x"},
            "tracking": {"uri": URL},
        },
        overrides=(f"tracking.uri={URL}", f"analysis.toy.fail={URL}", "name=mine"),
        name=f"at {URL}",
    )
    assert [o.status for o in run(what)] == ["ran"] * 3
    remember_run(store.root, "mine", what.overrides, [stage.label])
    assert holding(tmp_path) == []
    said = capfd.readouterr()
    assert SECRET not in said.out + said.err
    # It is the settings that are recorded, with what may be shown of them.
    record = store.done(stage)
    assert record["config"]["fail"] == "http://***@127.0.0.1:9/x"
    assert [o.status for o in run(what)] == ["reused"] * 3


def test_a_failure_with_a_secret_in_its_message_is_told_without(
    store, experiment_of, tmp_path, capfd, monkeypatch
):
    def fail(self, out):
        raise RuntimeError(f"cannot reach {URL}")

    monkeypatch.setattr(Number, "run", fail)
    what = experiment_of(Number(value=1), tracking=True, uri=f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(Exception, match="cannot reach"):
        run(what)
    assert holding(tmp_path) == []
    said = capfd.readouterr()
    assert SECRET not in said.out + said.err


@pytest.mark.parametrize("words", [[f"tracking.uri={URL}"], [f"store.remote=s3x://a:{SECRET}@b/c"]])
def test_a_place_that_is_not_there_is_named_without_its_secret(tmp_path, monkeypatch, capfd, words):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "target=agent", *words]) == 2
    said = capfd.readouterr()
    assert SECRET not in said.out + said.err and "***@" in said.err
    assert holding(tmp_path) == []
