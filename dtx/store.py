"""Artefacts on disk: lock, commit, verify, take away.

``store/<stage>-<key>/`` holds a stage's files and ``done.json``, which is written last and lists every
file with size and SHA-256. Work happens in ``store/.work/<stage>-<key>/`` under a lock and is moved into
place by one rename, so an artefact is whole or absent. An interrupted stage's work folder stays: the
next run of the same stage goes on in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dtx.errors import UserError
from dtx.progress import console
from dtx.report import write_atomically
from dtx.stage import CHECKPOINT, Stage

DONE = "done.json"
_current: Store | None = None


def current() -> Store:
    """The store in use: set by the runner or by :func:`use`, else ``./store``."""
    return _current or Store(Path("store"))


def use(store: Store) -> Store:
    """Make ``store`` the one that ``Stage.path`` and ``load()`` read."""
    global _current
    _current = store
    return store


class Store:
    """A folder of artefacts.

    Args:
        root: The folder; made when first written to.
    """

    def __init__(self, root: Path | str):
        self.root = Path(root).absolute()
        self._verified: dict[str, tuple] = {}

    def folder(self, stage: Stage) -> Path:
        """Where the stage's artefact is or will be."""
        return self.root / stage.label

    def has(self, stage: Stage) -> bool:
        """Whether the stage is committed. Reads no content: see :meth:`verify`."""
        return (self.folder(stage) / DONE).is_file()

    def done(self, stage: Stage) -> dict[str, Any]:
        """The stage's ``done.json``: config, inputs, files, versions, seconds, MLflow run id."""
        path = self.folder(stage) / DONE
        try:
            record = json.loads(path.read_text())
            assert isinstance(record["files"], dict)
            return record
        except (OSError, ValueError, KeyError, TypeError, AssertionError):
            raise self._corrupt(stage, DONE, "is missing or not readable") from None

    def artefact(self, stage: Stage) -> Path:
        """Folder of a committed artefact whose files have been verified.

        Raises:
            UserError: Not there, or a file is missing or changed.
        """
        if not self.has(stage):
            raise UserError(
                f"{stage.label} is not in the store {self.root}: run it first (`dtx run`)"
            )
        self.verify(stage)
        return self.folder(stage)

    def verify(self, stage: Stage) -> None:
        """Compare every file with its size and SHA-256 in ``done.json``.

        Files unchanged since this process last read them are not read again.

        Raises:
            UserError: Names the file and the command that mends it.
        """
        folder = self.folder(stage)
        for name, (size, digest) in self.done(stage)["files"].items():
            path = folder / name
            try:
                stat = path.stat()
            except OSError:
                raise self._corrupt(stage, name, "is missing") from None
            if stat.st_size != size:
                raise self._corrupt(stage, name, f"has {stat.st_size} bytes instead of {size}")
            seen = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
            if self._verified.get(str(path)) == seen:
                continue
            if checksum(path) != digest:
                raise self._corrupt(stage, name, "is not what was written (its checksum differs)")
            self._verified[str(path)] = seen

    def _corrupt(self, stage: Stage, name: str, what: str) -> UserError:
        return UserError(
            f"corrupt artefact: {self.folder(stage) / name} {what}; "
            f"`dtx invalidate {stage.label}` sets it aside, and the next run makes it again"
        )

    @contextmanager
    def work(self, stage: Stage) -> Iterator[Path | None]:
        """Hold the stage's lock and give its work folder, or None if it got done while waiting.

        Only one process works on a stage; the others wait and say for whom.
        """
        locks = self.root / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        path = locks / f"{stage.label}.lock"
        holder = locks / f"{stage.label}.holder"
        lock = FileLock(path)
        waiting = 0.0
        while True:
            try:
                lock.acquire(timeout=0 if not waiting else 0.2)
                break
            except Timeout:
                if time.monotonic() - waiting > 60 or not waiting:
                    who = holder.read_text() if holder.exists() else "another process"
                    console.print(f"[dim]waiting for {stage.label}: {who} is working on it[/]")
                    waiting = time.monotonic()
        try:
            if self.has(stage):
                yield None
                return
            stamp = time.strftime("%H:%M:%S")
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()} (since {stamp})")
            work = self.root / ".work" / stage.label
            work.mkdir(parents=True, exist_ok=True)
            yield work
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    def commit(self, stage: Stage, work: Path, record: dict[str, Any]) -> Path:
        """Write ``done.json`` and move the work folder into place. Call while holding the lock."""
        (work / CHECKPOINT).unlink(missing_ok=True)
        names = sorted(
            str(p.relative_to(work)) for p in work.rglob("*") if p.is_file() and p.name != DONE
        )
        files = {n: [(work / n).stat().st_size, checksum(work / n)] for n in names}
        write_atomically(work / DONE, json.dumps({**record, "files": files}, indent=1) + "\n")
        final = self.folder(stage)
        if final.exists():  # a folder without done.json: somebody's hand; never overwrite it
            self.set_aside(final)
        work.rename(final)
        return final

    def amend(self, stage: Stage, values: dict[str, Any]) -> None:
        """Add to ``done.json`` what is only known after the commit (the tracking run)."""
        path = self.folder(stage) / DONE
        write_atomically(path, json.dumps({**self.done(stage), **values}, indent=1) + "\n")

    def invalidate(self, prefix: str) -> list[Path]:
        """Set aside every artefact and unfinished work whose folder name starts with ``prefix``.

        Returns:
            The folders as they are now, under ``store/.invalid/``.
        """
        found = [
            p
            for place in (self.root, self.root / ".work")
            for p in place.glob(f"{prefix}*")
            if p.is_dir()
        ]
        return [self.set_aside(p) for p in sorted(found)]

    def set_aside(self, folder: Path) -> Path:
        """Move a folder to ``store/.invalid/``; nothing is deleted."""
        trash = self.root / ".invalid"
        trash.mkdir(parents=True, exist_ok=True)
        new = trash / f"{folder.name}.{time.time_ns()}"
        shutil.move(folder, new)
        return new


def checksum(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
