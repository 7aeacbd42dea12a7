"""What running and interrupted experiments will read, told to ``dtx gc`` so that it stays.

``.needed/<digest>-<process>.json`` lists the labels of one run's stages. Its lock is held while the process
lives. A run that did not end well leaves its list, because the same command goes on from there; the next
one that ends well takes it away.
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

from dtx.report import write_atomically
from dtx.store.locks import is_held

NEEDED = ".needed"


@dataclasses.dataclass(frozen=True)
class Need:
    """One run's list.

    Attributes:
        living: Whether its process is still there.
        since: When it was written, in seconds since 1970.
    """

    path: Path
    labels: frozenset[str]
    who: str
    since: float
    living: bool


@contextmanager
def needed(root: Path, labels: Iterable[str]) -> Iterator[None]:
    """Keep these artefacts from being collected during the block.

    Enter it before looking for what is there. A store that cannot be written is collected by nobody.
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
        for note in folder.glob(f"{digest}-*.json"):  # our own, and of those who did not get so far
            if note.stem == name or not _living(note):
                remove(note)
    finally:
        lock.release()


@contextmanager
def gate(root: Path) -> Iterator[None]:
    """Either a run says what it needs, or one artefact is taken away: never both at once."""
    folder = root / NEEDED
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "gate.lock"):
        yield


def needs(root: Path) -> list[Need]:
    """All lists; one that cannot be read was never finished, its run had not begun."""
    found = []
    for path in sorted((root / NEEDED).glob("*.json")):
        try:
            note = json.loads(path.read_text())
            labels, who, since = frozenset(note["labels"]), str(note["who"]), float(note["since"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found.append(Need(path, labels, who, since, _living(path)))
    return found


def remove(note: Path) -> None:
    """Take a list and its lock away."""
    for path in (note, note.with_suffix(".lock")):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def remove_strays(root: Path) -> None:
    """Take away locks without a list: of processes that were killed between the two."""
    with gate(root):
        for lock in (root / NEEDED).glob("*-*.lock"):
            note = lock.with_suffix(".json")
            if not note.exists() and not _living(note):
                remove(note)


def _living(note: Path) -> bool:
    return is_held(note.with_suffix(".lock"))
