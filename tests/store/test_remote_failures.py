"""Remote stores that do not answer, are full, or cannot be used."""

import json
import os

import pytest

from dtx.errors import UserError
from dtx.store.remote import Remote, RemoteError
from dtx.store.store import DONE, Store
from tests.store.remotes import ONE, TOTAL, LosesServer, artefact
from tests.toys import runs


def refused(machine, tmp_path, url: str) -> str:
    """What is said of a URL that cannot be used: one line, and nothing was run or written."""
    with pytest.raises(RemoteError) as error:
        machine("x", url)(TOTAL)
    assert "\n" not in str(error.value) and url.split("//")[0] in str(error.value)
    assert list((tmp_path / "x").iterdir()) == []
    return str(error.value)


def test_server_that_is_down_is_one_line_before_any_work(s3, machine, tmp_path):
    s3.server.stop()
    assert "Could not connect" in refused(machine, tmp_path, s3.url)


def test_wrong_credentials(s3, machine, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "no")
    assert "signature" in refused(machine, tmp_path, s3.url)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    assert "credentials" in refused(machine, tmp_path, s3.url)


def test_bucket_that_is_not_there(s3, machine, tmp_path):
    assert "bucket does not exist" in refused(machine, tmp_path, "s3://no-such-bucket/prefix")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftpp://host/place", "Protocol not known: ftpp"),
        ("s3://", "names no bucket"),
    ],
)
def test_urls_that_cannot_be_used(machine, tmp_path, url, words, store):
    assert words in refused(machine, tmp_path, url)


def test_folder_that_is_not_there_is_not_made(machine, tmp_path, store):
    """It may be a shared folder that is not mounted."""
    assert "mkdir -p" in refused(machine, tmp_path, str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def test_remote_store_must_be_another_place(tmp_path):
    with pytest.raises(UserError, match=r"store\.path itself"):
        Store(tmp_path, f"file://{tmp_path}")


def test_server_that_dies_during_the_run_costs_nothing(s3, machine, tmp_path, capsys):
    stage = LosesServer(pid=s3.server.process.pid)
    a = machine("a", s3.url)
    with pytest.raises(UserError, match=r"1 finished stages are in .* only") as error:
        a(stage)
    assert "\n" not in str(error.value) and "the same command pushes them" in str(error.value)
    assert f"{stage.label} is kept here only" in " ".join(capsys.readouterr().err.split())
    assert (artefact(tmp_path, "a", stage) / DONE).exists()
    s3.server.start()
    assert a(stage) == ["reused"]
    assert runs(tmp_path / "a", "loses") == 1
    assert machine("b", s3.url)(stage) == ["pulled"]


def test_full_remote_keeps_what_is_there(folder, machine, tmp_path):
    """A folder that cannot be written to: said at the end, and pushed by the next run."""
    a = machine("a", folder.url)
    (folder.folder / ONE.label).write_text("in the way of the folder to be made")
    with pytest.raises(UserError, match="1 finished stages are in"):
        a(ONE)
    (folder.folder / ONE.label).unlink()
    assert a(ONE) == ["reused"]
    assert machine("b", folder.url)(ONE) == ["pulled"]


def test_remote_lists_what_others_pushed_only_when_asked_again(folder, machine):
    remote = Remote(folder.url)
    assert not remote.has(ONE.label)
    machine("a", folder.url)(ONE)
    assert not remote.has(ONE.label)
    assert remote.has(ONE.label, ask_again=True)
    assert json.loads(remote.record(ONE.label))["key"] == ONE.key
