import os
import subprocess
import sys

import pytest

from dtx.running.provenance import git_state, peak_memory_mb

GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@b")


@pytest.fixture
def clone(tmp_path):
    """A clone with a committed file, an uncommitted change to it and a new Python file."""
    folder = tmp_path / "clone"
    folder.mkdir()
    (folder / "notes.txt").write_text("one\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*GIT, *command], cwd=folder, check=True)
    (folder / "notes.txt").write_text("two\n")
    (folder / "new file.py").write_text("")
    git_state.cache_clear()
    return folder


@pytest.fixture
def plain(clone):
    """What is recorded of the clone."""
    state = git_state(clone)
    git_state.cache_clear()
    return state


def test_commit_change_and_new_file_are_recorded(plain):
    assert len(plain["sha"]) == 40 and plain["untracked"] == ["new file.py"]
    assert "-one\n+two\n" in plain["diff"] and "a/notes.txt" in plain["diff"]


@pytest.mark.parametrize(
    "text", [b"gr\xf6\xdfer\n", b"\xff\xfe\x00x\n", "größer\n".encode("utf-16")]
)
def test_a_change_that_is_not_utf8_is_recorded(clone, plain, text):
    (clone / "notes.txt").write_bytes(text)
    state = git_state(clone)
    assert state["sha"] == plain["sha"] and "notes.txt" in state["diff"]


def test_a_name_that_is_not_ascii_is_recorded(clone):
    (clone / "größe.py").write_text("")
    (clone / os.fsdecode(b"gr\xf6\xdfe.py")).write_text("")
    assert len(git_state(clone)["untracked"]) == 3 and "größe.py" in git_state(clone)["untracked"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GIT_DIR", "/nowhere"),
        ("GIT_WORK_TREE", "/"),
        ("GIT_INDEX_FILE", "/nowhere"),
        ("GIT_EXTERNAL_DIFF", "/bin/true"),
        ("GIT_CEILING_DIRECTORIES", "/"),
        ("LC_ALL", "de_DE.UTF-8"),
    ],
)
def test_the_environment_does_not_change_the_record(clone, plain, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert git_state(clone) == plain


@pytest.mark.parametrize(
    "setting",
    [
        "diff.noprefix true",
        "diff.mnemonicPrefix true",
        "diff.external /bin/true",
        "color.ui always",
        "core.quotePath true",
        "diff.context 0",
        "core.pager cat",
    ],
)
def test_settings_of_git_do_not_change_the_record(clone, plain, tmp_path, monkeypatch, setting):
    name, _, value = setting.partition(" ")
    own = tmp_path / "gitconfig"
    subprocess.run(["git", "config", "-f", str(own), name, value], check=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    own.rename(tmp_path / ".gitconfig")
    assert git_state(clone) == plain


def test_peak_memory_is_not_that_of_the_process_that_started_this_one():
    held = bytearray(600 * 1024**2)
    held[::4096] = b"x" * len(held[::4096])  # so that the memory is there
    command = "from dtx.running.provenance import peak_memory_mb; print(peak_memory_mb())"
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True
    )
    assert 10 < int(done.stdout) < 500
    assert peak_memory_mb() > 600
