"""Artefacts in use by running and interrupted experiments, protected from ``dtx gc``.

``.needed/<digest>-<process>.json`` lists the labels of one run's stages. Its lock is held while the process
lives. A run that fails or is interrupted leaves its list, because the same command goes on from there; the
next run of the same stages that succeeds removes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from dtx.files import read_json
from dtx.report import write_atomically
from dtx.store.locks import is_held

NEEDED = ".needed"


@dataclasses.dataclass(frozen=True)
class InUse:
    """The artefacts that one run needs.

    Attributes:
        path: The list.
        labels: Of the artefacts.
        who: Process and host.
        since: When the list was written, in seconds since 1970.
        living: Whether the process still runs.
    """

    path: Path
    labels: frozenset[str]
    who: str
    since: float
    living: bool


@contextmanager
def protected(root: Path, labels: Iterable[str]) -> Iterator[None]:
    """Protect artefacts from ``dtx gc`` during the block.

    Enter it before looking which artefacts are there. In a store that cannot be written it does nothing:
    nobody can collect there.

    Args:
        root: The store.
        labels: Of the artefacts, those that are still to be made included.
    """
    labels = sorted(set(labels))
    digest = hashlib.sha256(" ".join(labels).encode()).hexdigest()[:12]
    name = f"{digest}-{socket.gethostname()}-{os.getpid()}-{time.time_ns()}"
    folder = root / NEEDED
    lock = FileLock(folder / f"{name}.lock")
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with gate(root):
            lock.acquire()
            who = f"process {os.getpid()} on {socket.gethostname()}"
            note = {"labels": labels, "who": who, "since": time.time()}
            write_atomically(folder / f"{name}.json", json.dumps(note) + "\n")
    try:
        yield
        for note in folder.glob(
            f"{digest}-*.json"
        ):  # our own, and those of earlier runs that failed
            if note.stem == name or not _living(note):
                remove(note)
    finally:
        lock.release()


@contextmanager
def gate(root: Path) -> Iterator[None]:
    """Hold the lock under which lists are written and artefacts are deleted, one at a time."""
    folder = root / NEEDED
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "gate.lock"):
        yield


def in_use(root: Path) -> list[InUse]:
    """All lists; an unreadable one is of a run that was killed before it began, and is left out."""
    lists = []
    for path in sorted((root / NEEDED).glob("*.json")):
        try:
            note = read_json(path)
            labels, who, since = frozenset(note["labels"]), str(note["who"]), float(note["since"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        lists.append(InUse(path, labels, who, since, _living(path)))
    return lists


def remove(note: Path) -> None:
    """Delete a list and its lock."""
    for path in (note, note.with_suffix(".lock")):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def remove_strays(root: Path) -> None:
    """Delete locks without a list, of processes that were killed before they wrote it."""
    with gate(root):
        for lock in (root / NEEDED).glob("*-*.lock"):
            note = lock.with_suffix(".json")
            if not note.exists() and not _living(note):
                remove(note)


def _living(note: Path) -> bool:
    return is_held(note.with_suffix(".lock"))
