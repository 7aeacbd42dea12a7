"""What is done to a command while it runs: see chaos_verbs.py."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.end_to_end.forked import Forked
from tests.end_to_end.fuzz_files import damage_bytes

ALL = ("all",)
"""In the place of names of commands."""


@dataclass
class Scene:
    """One command that is being harmed."""

    here: Path
    process: Forked
    chance: random.Random
    seconds: float
    known: set[str]
    """Names of work that was there before."""

    def moment(self, least: float = 0.0) -> bool:
        """Wait for a moment within the command's usual length; whether the command still runs then."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(
                least + self.chance.uniform(0.2, 1.05) * max(0.1, self.seconds - least)
            )
        return self.process.poll() is None

    def work_begins(self) -> bool:
        """Wait until there is unfinished work with a file in it."""
        while self.process.poll() is None:
            if self.work():
                return True
            time.sleep(0.005)
        return False

    def work(self) -> list[Path]:
        """Files of the work that the command has begun."""
        files = (self.here / "store").glob(".work/*/*")
        return [p for p in files if p.parent.name not in self.known and p.is_file()]


def _signalled(number: signal.Signals) -> Callable[[Scene], bool]:
    def harm(scene: Scene) -> bool:
        reached = scene.moment()
        if reached:
            scene.process.send_signal(number)
        return reached

    return harm


def _kill_worker(scene: Scene) -> bool:
    """Kill one of the processes that the command has started, once it works."""
    if not scene.work_begins():
        return False
    scene.process.poll()
    with contextlib.suppress(subprocess.TimeoutExpired):
        scene.process.wait(scene.chance.uniform(0, 2))
    if scene.process.poll() is not None:
        return False
    main = psutil.Process(scene.process.pid)
    workers = [p for p in main.children(recursive=True) if _works(p)]
    if not workers:
        return False
    scene.chance.choice(workers).kill()
    return True


def _works(process: psutil.Process) -> bool:
    try:
        return process.memory_info().rss > 150e6  # it has imported torch; trackers have not
    except psutil.Error:
        return False


def _lock_database(scene: Scene) -> bool:
    """Hold the database for longer than MLflow waits, or for a moment."""
    if not scene.moment():
        return False
    connection = sqlite3.connect(scene.here / "mlflow.db", timeout=20, isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        with contextlib.suppress(subprocess.TimeoutExpired):
            scene.process.wait(scene.chance.choice([1, 5, 25]))
    except sqlite3.OperationalError:  # it is held by the command itself
        return False
    finally:
        connection.close()
    return True


def _delete_database(scene: Scene) -> bool:
    if not scene.moment():
        return False
    for path in scene.here.glob("mlflow.db*"):
        path.unlink()
    return True


def _damage_work(scene: Scene) -> bool:
    """Kill the command at its work, and damage a file of it."""
    if not scene.work_begins():
        return False
    with contextlib.suppress(subprocess.TimeoutExpired):
        scene.process.wait(scene.chance.uniform(0, 2))
    if scene.process.poll() is not None:
        return False
    scene.process.kill()
    scene.process.wait()
    if not (files := scene.work()):  # between two stages
        return True
    path = scene.chance.choice(files)
    _, content = damage_bytes(path.read_bytes(), scene.chance)
    path.write_bytes(content)
    return True


def _wait(scene: Scene) -> bool:
    """The disk has been small from the start: see :func:`disk_of`."""
    return scene.process.wait(300) != 0


DISK_FULL = "disk full"


@contextlib.contextmanager
def disk_of(here: Path, harm: str) -> Iterator[Callable[[int | None], None]]:
    """A disk of its own for ``here`` if it is to be full; gives what sets the bytes that are free.

    None: as many as anybody wants. Another harm's disk is the machine's, whose size stays.
    """
    if harm != DISK_FULL:
        yield lambda free: None
        return

    def resize(free: int | None) -> None:
        size = "2g" if free is None else shutil.disk_usage(here).used + free
        subprocess.run(["mount", "-o", f"remount,size={size}", str(here)], check=True)

    here.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2g", "none", str(here)], check=True)
    try:
        yield resize
    finally:
        subprocess.run(["umount", "--lazy", str(here)], check=True)
        here.rmdir()


def possible(harm: str) -> bool:
    """Whether this machine allows it: a full disk is one that is mounted for it."""
    if harm != DISK_FULL:
        return True
    if os.geteuid() != 0:
        return False
    with (
        tempfile.TemporaryDirectory() as place,
        contextlib.suppress(OSError, subprocess.SubprocessError),
        disk_of(Path(place) / "here", harm),
    ):
        return True
    return False


KILL, HANG_UP, STOP = map(_signalled, (signal.SIGKILL, signal.SIGHUP, signal.SIGTERM))
HARM: dict[str, tuple[Callable[[Scene], bool], list[str]]] = {
    "killed": (KILL, ALL),
    "terminal closed": (HANG_UP, ["run", "sweep", "joblib", "submitit", "import model"]),
    "stopped": (STOP, ["run", "joblib", "submitit", "push", "pull", "export dataset"]),
    "worker killed": (_kill_worker, ["joblib", "submitit"]),
    "database locked": (_lock_database, ["run", "sweep", "import model"]),
    "database deleted": (_delete_database, ["run", "sweep", "import policy"]),
    "work damaged": (_damage_work, ["run", "sweep"]),
    DISK_FULL: (
        _wait,
        ["run", "sweep", "import model", "export model", "export dataset", "pull", "redraw"],
    ),
}
"""What is done, and to which commands."""
