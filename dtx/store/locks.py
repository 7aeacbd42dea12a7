"""Locks: one process at a time works on a stage; others wait and print which process they wait for.

``.locks/<label>.lock`` is a system lock, which is released when its process dies. ``.locks/<label>.holder``
names that process, for messages only.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dtx.files import read_json
from dtx.progress import console
from dtx.report import write_atomically
from dtx.running.processes import process_tags

_PRINT_AGAIN = 60.0  # seconds


@contextmanager
def held(folder: Path, label: str) -> Iterator[None]:
    """Hold the lock of ``label`` during the block; wait for it if another process has it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{label}.lock")
    printed: float | None = None
    while True:
        try:
            lock.acquire(timeout=0 if printed is None else 0.2)
            break
        except Timeout:
            if printed is None or time.monotonic() - printed > _PRINT_AGAIN:
                who = in_words(_read(folder, label))
                console.print(f"[dim]waiting for {label}: {who} is working on it[/]")
                printed = time.monotonic()
    note = folder / f"{label}.holder"
    try:
        tags = process_tags()
        holder = {
            "pid": os.getpid(),
            "host": tags["dtx.host"],
            "since": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "process": tags["dtx.process"],
        }
        write_atomically(note, json.dumps(holder) + "\n")
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


@contextmanager
def free(folder: Path, label: str) -> Iterator[bool]:
    """Hold the lock of ``label`` during the block if nobody has it; gives whether it is held, never waits."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{label}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def locked(folder: Path, label: str) -> bool:
    """Whether a living process, on this or another host, works on ``label``. Never waits."""
    return is_held(folder / f"{label}.lock")


def is_held(path: Path) -> bool:
    """Whether a living process, on this or another host, holds a lock file. Never waits."""
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def holder(folder: Path, label: str) -> dict | None:
    """Who holds the lock now: ``pid``, ``host``, ``since``, ``process``; None if nobody does."""
    return (_read(folder, label) or {}) if locked(folder, label) else None


def in_words(who: dict | None) -> str:
    """``process 12 on ada (since 13:20:01)``, for messages."""
    if not who or not {"pid", "host", "since"} <= who.keys():
        return "another process"
    day, _, clock = str(who["since"]).partition("T")
    today = day == time.strftime("%Y-%m-%d")
    return f"process {who['pid']} on {who['host']} (since {'' if today else day + ' '}{clock[:8]})"


def _read(folder: Path, label: str) -> dict | None:
    try:
        who = read_json(folder / f"{label}.holder")
    except (OSError, ValueError):  # not yet written, or of an older version
        return None
    return who if isinstance(who, dict) else None
