"""A project folder that is moved, renamed or copied goes on in MLflow, and leaves its old place alone."""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from dtx.config.compose import TrackingConfig
from dtx.running.runner import run
from dtx.store.store import Store, used
from dtx.tracking import Server
from tests.conftest import experiment_of
from tests.toys import Number, Spread, Sum

ROOT = Path(__file__).absolute().parents[2]
ONE, TWO = Number(value=1), Number(value=2)
TOTAL = Sum(left=ONE, right=TWO)
SHOWN = Spread(of=ONE, error=0.0)
PLACES = [
    "renamed",
    "run[1]",
    "a b/50% off",
    "was?here=1",
    "über größe",
    "project2",
    "project/below",
    "it's",
]


def work(folder, *stages):
    """Run stages in the project of a folder; the statuses."""
    with used(Store(folder / "store")):
        return [o.status for o in run(experiment_of.__wrapped__(folder)(*stages, tracking=True))]


def client_of(folder):
    with used(Store(folder / "store")):
        return Server(TrackingConfig(enabled=True, uri=None, experiment="tests"))


def results(folder):
    """What MLflow reads of each run's ``done.json``, by the stage's key."""
    server, found = client_of(folder), {}
    for shown in server.client.search_runs([server.experiment_id]):
        if key := shown.data.tags.get("dtx.key"):
            file = server.client.download_artifacts(shown.info.run_id, "done.json")
            found[key] = json.loads(Path(file).read_text())["key"]
    return found


def fingerprint(folder):
    """All that is in a folder, but locks."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith((".lock", ".holder"))
    }


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A project with a run, in a folder whose name has characters of URIs."""
    folder = tmp_path_factory.mktemp("made") / "my project 100%"
    folder.mkdir()
    work(folder, SHOWN)
    return folder


@pytest.fixture
def project(made, tmp_path):
    """The same, moved from where it was made to ``project`` and opened there."""
    folder = tmp_path / "project"
    shutil.copytree(made, folder)
    return folder


@pytest.mark.parametrize("place", PLACES)
def test_a_moved_project_goes_on(project, tmp_path, place):
    assert work(project, TOTAL) == ["reused", "ran", "ran"]
    new = tmp_path / place
    if new.is_relative_to(project):
        aside = project.rename(tmp_path / "aside")
        new.parent.mkdir(parents=True)
        aside.rename(new)
    else:
        new.parent.mkdir(parents=True, exist_ok=True)
        project.rename(new)
    before = fingerprint(new / "mlartifacts")
    keys = {ONE.key, SHOWN.key, TWO.key, TOTAL.key}
    assert results(new) == {key: key for key in keys}
    three = Number(value=3)
    assert work(new, three) == ["ran"]
    assert results(new) == {key: key for key in {*keys, three.key}}
    after = fingerprint(new / "mlartifacts")
    assert before.items() <= after.items() and len(after) > len(before)
    assert new.is_relative_to(project) or not project.exists()


def test_a_copy_goes_on_beside_its_original(made, tmp_path):
    original = shutil.copytree(made, tmp_path / "original")
    assert results(original).keys() == {ONE.key, SHOWN.key}
    untouched = fingerprint(original)
    copy = Path(shutil.copytree(original, tmp_path / "copy"))
    assert work(copy, TOTAL) == ["reused", "ran", "ran"]
    assert results(copy).keys() == {ONE.key, SHOWN.key, TWO.key, TOTAL.key}
    assert fingerprint(original) == untouched
    assert work(original, TWO) == ["ran"]  # and the other way round
    assert results(original).keys() == {ONE.key, SHOWN.key, TWO.key}
    assert results(copy).keys() == {ONE.key, SHOWN.key, TWO.key, TOTAL.key}


def test_nothing_in_the_database_names_the_old_place(project, made):
    server = client_of(project)
    with_places = "\n".join(sorted(dump(project / "mlflow.db")))
    assert str(project) in with_places
    assert str(made) not in with_places and made.as_uri() not in with_places
    assert (
        server.client.get_experiment(server.experiment_id).artifact_location
        == (project / "mlartifacts").as_uri()
    )


def dump(database):
    """Every text of a database that may be a place."""
    with sqlite3.connect(database) as rows:
        for (table,) in rows.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
            for row in rows.execute(f"SELECT * FROM {table}").fetchall():
                yield from (f"{table}: {v}" for v in row if isinstance(v, str) and "/" in v)


def test_it_is_said_once(project, capsys, made):
    client_of(project)
    said = capsys.readouterr().err
    assert f"this project was at {made}: its MLflow database now names {project}" in said
    client_of(project)
    assert capsys.readouterr().err == ""


def test_a_database_that_was_moved_without_its_files_says_what_to_copy(made, tmp_path, capsys):
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(made / "mlflow.db", alone / "mlflow.db")
    client_of(alone)
    said = capsys.readouterr().err
    assert f"copy {made / 'mlartifacts'} to {alone / 'mlartifacts'}" in said


def test_a_link_to_the_folder_is_the_same_place(project, tmp_path, capsys):
    client_of(project)
    capsys.readouterr()
    (tmp_path / "link").symlink_to(project)
    server = client_of(tmp_path / "link")
    assert capsys.readouterr().err == ""
    assert (
        server.client.get_experiment(server.experiment_id).artifact_location
        == (project / "mlartifacts").as_uri()
    )


def test_experiments_of_others_stay_where_they_are(project, tmp_path):
    server = client_of(project)
    theirs = {
        name: server.client.create_experiment(name, artifact_location=place)
        for name, place in {
            "bucket": "s3://bucket/mlartifacts",
            "proxied": "mlflow-artifacts:/mlartifacts",
            "local": (tmp_path / "elsewhere").as_uri(),
            "longer": f"{(project / 'mlartifacts').as_uri()}-2",
        }.items()
    }
    places = {i: server.client.get_experiment(i).artifact_location for i in theirs.values()}
    project.rename(tmp_path / "renamed")
    server = client_of(tmp_path / "renamed")
    for i, place in places.items():
        assert server.client.get_experiment(i).artifact_location == place


def test_processes_that_open_a_moved_project_at_once(project):
    code = (
        "from dtx.config.compose import TrackingConfig\nfrom dtx.tracking import Server\n"
        "server = Server(TrackingConfig(enabled=True, uri='sqlite:///mlflow.db', experiment='tests'))\n"
        "server.log_text(server.start('new', {}), 'note.txt', 'x')\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300"}
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=project, env=env, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [job.communicate(timeout=240)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], said
    assert "".join(said).count("this project was at") == 1
    assert len(list(project.glob("mlartifacts/*/artifacts/note.txt"))) == 2
    assert results(project).keys() == {ONE.key, SHOWN.key}
