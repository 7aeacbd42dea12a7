"""Which process this is, and whether another one is still alive."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

MARKS = ".tracking"
"""Folder of a store: a file for each process that tracks a run."""


@dataclass
class Mark:
    """The file of a process that tracks a run.

    Attributes:
        stays: The run was not ended, for the server was lost: a later process does it.
    """

    stays: bool = False


def process_tags() -> dict[str, str]:
    """Host and process, as tags of a run; the process by number and start, as numbers are used again."""
    return {
        "dtx.host": socket.gethostname(),
        "dtx.process": f"{os.getpid()}:{_started(os.getpid())}",
    }


def process_name() -> str:
    """Host and process as the end of a file's name, by which :func:`of_killed` finds it."""
    tags = process_tags()
    return f"{tags['dtx.host']}+{tags['dtx.process'].replace(':', '+')}"


def of_killed(folder: Path, begin: str) -> list[Path]:
    """What is in a folder with a name from ``begin`` to that of a process of this host that has ended."""
    killed = []
    for path in folder.iterdir() if folder.is_dir() else ():
        host, number, started = ["", "", "", *path.name.split("+")][-3:]
        here = path.name.startswith(begin) and host == socket.gethostname() and number.isdecimal()
        if here and not alive(f"{number}:{started}"):
            killed.append(path)
    return killed


def seconds_alive() -> float:
    """How long this process has run, imports and all."""
    return time.time() - psutil.Process().create_time()


def alive(process: str) -> bool:
    """Whether a process of this host, as :func:`process_tags` names it, still runs."""
    return _find(process) is not None


_ended_with: set[str] = set()


def end_with(process: str) -> None:
    """End this process, and those that it started, within a second of the death of another one of this host.

    For workers: the system tells them nothing when the process that started them, or one above it, is killed.
    """
    if process in _ended_with:
        return
    _ended_with.add(process)
    threading.Thread(target=_wait_and_end, args=(_find(process),), daemon=True).start()


def _wait_and_end(other: psutil.Process | None) -> None:
    # Asked again and again, as the thing to wait on differs between systems. A clock that is set meanwhile
    # does not matter: psutil knows a process by its start in the system's own time.
    while other is not None and other.is_running() and not _is_zombie(other):
        time.sleep(0.5)
    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.terminate()  # multiprocessing's own helpers ignore it, tidy up and end by themselves
    os.kill(os.getpid(), signal.SIGKILL)


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


@contextmanager
def marked(root: Path) -> Iterator[Mark]:
    """Leave a file in the store at ``root`` while this process tracks a run; it stays after a kill.

    It also stays if the block sets :attr:`Mark.stays`.
    """
    path = root / MARKS / process_name()
    if path.exists():  # a job inside its sweep's process: the sweep's mark is enough
        yield Mark()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    mark = Mark()
    try:
        yield mark
    finally:
        if not mark.stays:
            path.unlink(missing_ok=True)


def killed_before(root: Path) -> list[Path]:
    """Marks, in the store at ``root``, of ended processes of this host that left a run RUNNING.

    They were killed, or lost the server.

    Remove a mark only after its runs are settled: the process that settles them may be killed as well.
    """
    return of_killed(root / MARKS, "")


def _find(process: str) -> psutil.Process | None:
    """The process that has this number and start, unless it has ended and only waits to be collected."""
    number, _, started = process.partition(":")
    now = _started(int(number))
    # The system counts from its own start, whose time may differ by a second when it is asked again.
    if not now or abs(int(now) - int(started or 0)) > 1:
        return None
    try:
        found = psutil.Process(int(number))
    except psutil.Error:
        return None
    return None if _is_zombie(found) else found


def _started(number: int) -> str:
    """When a process started; empty if there is none."""
    try:
        return f"{psutil.Process(number).create_time():.0f}"
    except psutil.Error:
        return ""
