"""Which process this is, and whether another one is still alive."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
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


def seconds_alive() -> float:
    """How long this process has run, imports and all."""
    return time.time() - psutil.Process().create_time()


def alive(process: str) -> bool:
    """Whether a process of this host, as :func:`process_tags` names it, still runs."""
    number, _, started = process.partition(":")
    return _started(int(number)) == started


@contextmanager
def marked(root: Path) -> Iterator[Mark]:
    """Leave a file in the store at ``root`` while this process tracks a run; it stays after a kill.

    It also stays if the block sets :attr:`Mark.stays`.
    """
    tags = process_tags()
    path = root / MARKS / f"{tags['dtx.host']}+{tags['dtx.process'].replace(':', '+')}"
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
    marks = (root / MARKS).glob(f"{socket.gethostname()}+*")
    return [path for path in marks if not alive(":".join(path.name.split("+")[-2:]))]


def _started(number: int) -> str:
    """When a process started; empty if there is none."""
    try:
        return f"{psutil.Process(number).create_time():.0f}"
    except psutil.Error:
        return ""
