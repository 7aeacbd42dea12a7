"""Remote stores that do not answer, are full, or cannot be used."""

import hashlib
import json
import os
import shutil

import pytest

from dtx.errors import UserError
from dtx.store.checksums import files_in
from dtx.store.remote import Remote, RemoteError, _digest
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
        *((url, "names no folder") for url in ("file:///", "/", "//", "file://", "file://.")),
        *((url, "names no folder") for url in ("file:////", "local:///", "file://host/place")),
        ("simplecache::file:///somewhere", "not a chain"),
    ],
)
def test_urls_that_cannot_be_used(machine, tmp_path, url, words, store):
    assert words in refused(machine, tmp_path, url)


def test_folder_that_is_not_there_is_not_made(machine, tmp_path, store):
    """It may be a shared folder that is not mounted."""
    assert "mkdir -p" in refused(machine, tmp_path, str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file://{}/store", r"is store\.path itself"),
        ("store", r"is store\.path itself"),
        ("{}/other/../store", r"is store\.path itself"),
        ("file://{}/store/inside", r"is inside store\.path"),
        ("store/.work", r"is inside store\.path"),
        ("linked/inside", r"is inside store\.path"),
        (".", "is the working folder"),
        ("file://{}", "is the working folder"),
    ],
)
def test_remote_store_must_be_another_place(tmp_path, monkeypatch, url, words):
    (tmp_path / "store").mkdir()
    (tmp_path / "linked").symlink_to("store")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words):
        Store("store", url.format(tmp_path))
    assert Store("store", str(tmp_path / "shared")).remote is not None


@pytest.mark.parametrize("what", ["record", "file", "folder", "empty"])
def test_a_pipe_in_a_shared_folder_is_not_waited_for(folder, machine, tmp_path, what):
    machine("first", folder.url)(ONE)
    label = folder.folder / ONE.label
    (file,) = label.rglob("value.txt")
    target = {"record": label.with_name(f"{ONE.label}.json"), "folder": file.parent}.get(what, file)
    if what == "empty":  # a pipe has no bytes, either
        record = json.loads(label.with_name(f"{ONE.label}.json").read_text())
        files = {**record["files"], "empty": [0, hashlib.sha256().hexdigest()]}
        label.with_name(f"{ONE.label}.json").write_text(json.dumps({**record, "files": files}))
        target = label / _digest(files_in({"files": files})) / "empty"
        target.parent.mkdir()
        os.mkfifo(target)
    else:
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        os.mkfifo(target)
    with pytest.raises(UserError, match=r"is (not a file|missing)"):
        Store(tmp_path / "second" / "store", folder.url).artefact(ONE)


def test_a_file_there_that_is_larger_than_recorded_is_not_copied(folder, machine, tmp_path):
    machine("first", folder.url)(ONE)
    (file,) = (folder.folder / ONE.label).rglob("value.txt")
    with file.open("r+b") as large:
        large.truncate(2**40)  # it takes no space until somebody copies it
    with pytest.raises(UserError, match=r"has 1099511627776 bytes instead of"):
        Store(tmp_path / "second" / "store", folder.url).artefact(ONE)


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
