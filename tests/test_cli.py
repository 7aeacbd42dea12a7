"""The command line as a user meets it: real processes for signals and disks, in-process elsewhere."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dtx import verbs
from dtx.cli import main
from tests.toys import runs

ROOT = Path(__file__).parent.parent
TOY = """# @package analysis.toy
_target_: tests.toys.Sum
left: {_target_: tests.toys.Number, value: 1, sign: plus, parts: [], workers: 1}
right: {_base_: "${analysis.toy.left}", value: 2}
seconds: 0
fail: ""
"""
QUIET = "tracking.enabled=false"


@pytest.fixture
def user(tmp_path, monkeypatch):
    """A user's own folder with a config of their own; commands run there."""
    (tmp_path / "mine" / "analysis").mkdir(parents=True)
    (tmp_path / "mine" / "analysis" / "toy.yaml").write_text(TOY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def dtx(*args: str) -> int:
    return main([args[0], "--config-dir", "mine", "analysis=[toy]", *args[1:]])


def process(folder: Path, *args: str, **kwargs) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "dtx",
        args[0],
        "--config-dir",
        "mine",
        "analysis=[toy]",
        *args[1:],
    ]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.Popen(
        command, cwd=folder, env=env, stderr=subprocess.PIPE, text=True, **kwargs
    )


def test_run_then_run_again_reuses_everything(user, capsys):
    assert dtx("run", QUIET) == 0
    assert "3 of 3 stages ran" in capsys.readouterr().err
    assert dtx("run", QUIET) == 0
    assert "everything reused (3 stages)" in capsys.readouterr().err
    assert runs(user, "sum") == 1


def test_plan_imports_no_torch(user):
    script = (
        "import sys; from dtx.cli import main; status = main(['plan']); "
        "heavy = {'torch', 'pandas', 'mlflow', 'matplotlib', 'envpool'} & set(sys.modules); "
        "sys.exit(status or f'imported {heavy}' if heavy else status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=user,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert "ppo-" in done.stdout


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("analysis.toy.fial=x", "did you mean 'fail'"),
        ("analysis.toy.left.value=x", "a whole number is wanted"),
        ("analysis.toy.left.sign=plsu", "one of plus, minus"),
        ("analysis=[toyy]", "did you mean"),
        # a group that the target does not need is looked at all the same
        ("dataset.mixture=[{temperature: -1, share: 1}]", "temperature"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(user, capsys, override, words):
    status = dtx("run", override)
    lines = capsys.readouterr().err.splitlines()
    assert status == 2
    assert (
        len(lines) == 1 and words in lines[0] and override.split("=")[0].split(".")[0] in lines[0]
    )
    assert not (user / "store").exists()


def test_invalidate(user, capsys):
    dtx("run", QUIET)
    assert main(["invalidate", "toys-nothing"]) == 2
    assert "nothing in store starts with" in capsys.readouterr().err
    assert main(["invalidate", "toys"]) == 0
    assert not list((user / "store").glob("toys-*"))
    assert len(list((user / "store" / ".invalid").iterdir())) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_cleanly_and_the_same_command_goes_on(user, number):
    job = process(user, "run", QUIET, "analysis.toy.seconds=60")
    while runs(user, "sum") == 0:
        time.sleep(0.02)
        assert job.poll() is None, job.stderr.read()
    job.send_signal(number)
    _, error = job.communicate(timeout=20)
    assert job.returncode == 130
    assert "interrupted" in error and "Traceback" not in error
    again = process(user, "run", QUIET, "analysis.toy.seconds=0")
    _, error = again.communicate(timeout=60)
    assert again.returncode == 0 and "1 of 3 stages ran" in error


@pytest.fixture
def mount(tmp_path):
    """Mount a tiny disk, or skip where that is not allowed."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a disk needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_one_line_and_loses_nothing(user, mount):
    (mount / "fill").write_bytes(b"0" * 4096 * 64)
    with (mount / "rest").open("wb", buffering=0) as rest, contextlib.suppress(OSError):
        while rest.write(b"0" * 4096):
            pass
    job = process(user, "run", QUIET, f"store.path={mount}/store")
    _, error = job.communicate(timeout=60)
    assert job.returncode == 2 and "Traceback" not in error
    assert "No space left on device" in error and "store.path=" in error and str(mount) in error
    (mount / "fill").unlink()
    (mount / "rest").unlink()
    again = process(user, "run", QUIET, f"store.path={mount}/store")
    _, error = again.communicate(timeout=60)
    assert again.returncode == 0, error


def test_a_read_only_disk_is_one_line(user, mount):
    subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
    job = process(user, "run", QUIET, f"store.path={mount}/store")
    _, error = job.communicate(timeout=60)
    assert job.returncode == 2 and "Traceback" not in error
    assert "Read-only file system" in error and "store.path=" in error


def test_a_signal_while_the_command_is_still_read_is_clean(user, monkeypatch, capsys):
    def interrupted(*args):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("dtx.verbs.plan.compose", interrupted)
    assert dtx("plan") == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("verb", verbs.names())
def test_every_verb_explains_itself_with_two_examples(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    out = capsys.readouterr().out
    assert stop.value.code == 0
    examples = out[out.index("examples:") :]
    assert examples.count(f"dtx {verb}") >= 2


@pytest.mark.parametrize("verb", ["plan", "gc", "ls", "status"])
def test_verbs_that_only_read_run_no_plugin_of_the_working_folder(user, verb):
    (user / "hydra_plugins").mkdir()
    (user / "hydra_plugins" / "mine.py").write_text("open('ran', 'w').close()")
    done = process(user, verb)
    done.communicate(timeout=60)
    assert done.returncode in (0, 2) and not (user / "ran").exists()


@pytest.mark.parametrize("place", ["store.path", "tracking.uri"])
def test_a_place_below_a_file_is_one_line(user, capsys, place):
    (user / "file").write_text("")
    value = "file/store" if place == "store.path" else "sqlite:///file/mlflow.db"
    assert dtx("run", f"{place}={value}", *([QUIET] if place == "store.path" else [])) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if line.startswith("dtx: error")]) == 1
    assert "Traceback" not in " ".join(lines) and "file" in " ".join(lines)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/full/file"),
        PermissionError(errno.EACCES, "Permission denied", "/read/only"),
        OSError(errno.EROFS, "Read-only file system", "/cd"),
        OSError(errno.ENAMETOOLONG, "File name too long", "n" * 300),
        OSError(errno.EMFILE, "Too many open files"),
    ],
)
@pytest.mark.parametrize("verb", ["status", "invalidate"])
def test_what_a_disk_says_is_one_line_with_every_verb(user, capsys, monkeypatch, error, verb):
    def fail(_):
        raise error

    monkeypatch.setattr(verbs.module_of(verb), "main", fail)
    assert main([verb, *(["x"] if verb == "invalidate" else [])]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert error.strerror in line and (error.filename or "") in line


def test_another_error_of_the_system_is_a_defect(user, monkeypatch):
    def fail(_):
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(verbs.module_of("status"), "main", fail)
    with pytest.raises(OSError, match="Bad file"):
        main(["status"])


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_reason_to_fail(user, closed):
    command = f"{sys.executable} -m dtx cp agent/ppo mine --as mine {closed}"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(["sh", "-c", command], cwd=user, env=env, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("settings", "args"),
    [
        ({"PYTHONOPTIMIZE": "2"}, ["--help"]),
        ({"PYTHONOPTIMIZE": "2"}, ["plan", "--help"]),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}, ["ls"]),
        ({"PYTHONWARNINGS": "error"}, ["ls"]),
        ({"COLUMNS": "0", "TERM": "dumb"}, ["run", "--help"]),
        ({"COLUMNS": "many", "HOME": "/nowhere"}, ["completion", "bash"]),
    ],
)
def test_odd_surroundings_change_nothing(user, settings, args):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONCOERCECLOCALE": "0", **settings}
    command = [sys.executable, "-m", "dtx", *args]
    done = subprocess.run(command, cwd=user, env=env, capture_output=True, timeout=60)
    assert done.returncode == 0 and done.stdout and not done.stderr


def test_a_working_folder_that_was_deleted_is_one_line(user, monkeypatch, capsys):
    (user / "gone").mkdir()
    monkeypatch.chdir(user / "gone")
    (user / "gone").rmdir()
    assert main(["ls"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "the working folder is not there any more" in line


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_a_store_that_is_no_folder_is_one_line(user, capsys, verb):
    assert dtx(verb, QUIET, "store.path=/dev/null") == 2
    assert "/dev/null is not a folder" in capsys.readouterr().err
