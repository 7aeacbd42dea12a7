"""One progress bar for each stage: amount done, rate, time left and a short note.

Without a terminal (CI, SLURM) a plain line is printed now and then. Inside :func:`report_to` the progress is
also written to a small file, which ``dtx status`` reads.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dtx.files import read_json
from dtx.text import copies, discreet, printable


class CopyingConsole(Console):
    """A console that can copy its output to a file, the log of a sweep's job."""

    copy: Console | None = None

    def print(self, *objects: Any, **options: Any) -> None:
        """Print here, and in the copy if there is one; without secrets of URLs and control characters."""
        objects = tuple(printable(discreet(o)) if isinstance(o, str) else o for o in objects)
        super().print(*objects, **options)
        if self.copy is not None:
            self.copy.print(*objects, **options)


_LOG_WIDTH = 160  # of logs: rich would fold lines at 80 where there is no terminal
_columns = os.environ.get("COLUMNS", "")
# Some editors and CI services set it to 0: nothing at all would be shown.
_known = _columns.isdecimal() and int(_columns) > 0
if _columns and not _known:
    os.environ.pop("COLUMNS")
_width = None if sys.stderr.isatty() or _known else _LOG_WIDTH
console = CopyingConsole(stderr=True, highlight=False, width=_width)


class Log(io.TextIOBase):
    """A copy of what is printed, in memory until there is a file for it."""

    def __init__(self) -> None:
        self._file: TextIO = io.StringIO()
        self.path: Path | None = None

    def keep(self, path: Path) -> None:
        """Write what was printed, and what will be, at the end of a file."""
        if self.path is not None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a", encoding="utf-8", buffering=1)  # a line is there after a kill
        assert isinstance(self._file, io.StringIO)
        file.write(self._file.getvalue())
        self._file, self.path = file, path

    def write(self, text: str, /) -> int:
        """As a file's."""
        return self._file.write(text)

    def flush(self) -> None:
        """As a file's."""
        self._file.flush()

    def close(self) -> None:
        """As a file's."""
        super().close()
        self._file.close()


@contextmanager
def copied() -> Iterator[Log]:
    """Copy what is printed in the block, without moving bars; in the block, ``keep`` names the file."""
    before = console.copy
    with contextlib.closing(Log()) as log:
        console.copy = Console(file=log, width=_LOG_WIDTH, highlight=False)
        copies.append(log)
        try:
            yield log
        finally:
            copies.remove(log)
            console.copy = before


PROGRESS = "progress.json"
"""The stage's progress, in its work folder; not part of the artefact."""

_WRITE_EVERY, _PRINT_EVERY = 2.0, 30.0  # seconds
_folder: ContextVar[Path | None] = ContextVar("progress folder", default=None)
_title: ContextVar[str] = ContextVar("title of the stage", default="")


def quiet() -> bool:
    """No moving bars in CI or when standard error is not a terminal."""
    return bool(os.environ.get("CI")) or not sys.stderr.isatty()


@contextmanager
def report_to(folder: Path, title: str = "") -> Iterator[None]:
    """Bars in the block write ``progress.json`` into ``folder`` (the stage's work folder).

    Args:
        title: What readers see in the place of the bars' own names: ``3 of 7 behaviour clone``.
    """
    tokens = _folder.set(folder), _title.set(title)
    try:
        yield
    finally:
        _folder.reset(tokens[0])
        _title.reset(tokens[1])


def read_progress(folder: Path) -> dict | None:
    """The last record of a bar: ``title``, ``done``, ``total``, ``unit``, ``rate``, ``note``, ``time``."""
    try:
        record = read_json(folder / PROGRESS)
        numbers = {k: float(record[k]) for k in ("done", "total", "rate", "time")}
        title = str(record.get("title", ""))
        return {**numbers, "unit": str(record["unit"]), "note": str(record["note"]), "title": title}
    except (OSError, ValueError, KeyError, TypeError):  # none, or an incomplete one
        return None


def remove_progress(folder: Path) -> None:
    """Delete the file, and an incomplete one that a kill left."""
    for name in (PROGRESS, f"{PROGRESS}.partial"):
        (folder / name).unlink(missing_ok=True)


class Bar:
    """Handle on the stage's bar."""

    def __init__(
        self,
        total: float,
        unit: str,
        progress: Progress | None,
        task: TaskID | None,
        name: str = "",
    ):
        self.total, self.unit, self.name = total, unit, _title.get() or name
        self._progress, self._task, self._folder = progress, task, _folder.get()
        self._printed, self._written = (
            time.monotonic(),
            -_WRITE_EVERY,
        )  # the first is written at once
        self._first: tuple[float, float] | None = None
        self._done = 0.0

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Add to the amount done; ``note`` replaces the text at the end (success .97)."""
        self.move_to(self._done + amount, note)

    def move_to(self, done: float, note: str = "") -> None:
        """Set the amount done."""
        self._done = done
        now = time.monotonic()
        # The rate counts from the first amount: neither an earlier run nor the start-up belongs to it.
        first, start = self._first = self._first or (done, now)
        rate = max(0.0, done - first) / max(now - start, 1e-6)
        if self._folder is not None and now - self._written >= _WRITE_EVERY:
            self._written = now
            self._write(self._folder, rate, note)
        if self._progress is not None and self._task is not None:
            speed = rate_in_words(rate, self.unit)
            self._progress.update(self._task, completed=done, speed=speed, note=note)
        elif now - self._printed >= _PRINT_EVERY:
            self._printed = now
            line = in_words(done, self.total, self.unit, rate, note)
            console.print(f"{self.name}: {line}", markup=False, soft_wrap=True)

    def _write(self, folder: Path, rate: float, note: str) -> None:
        values = {"title": self.name, "done": self._done, "total": self.total}
        values |= {"unit": self.unit, "rate": rate}
        text = json.dumps({**values, "note": note, "time": time.time()})
        # Not synced: it has no use after a crash. The stage itself reports a full disk.
        with contextlib.suppress(OSError):
            partial = folder / f"{PROGRESS}.partial"
            partial.write_text(text + "\n")
            partial.replace(folder / PROGRESS)


def in_words(done: float, total: float, unit: str, rate: float, note: str = "") -> str:
    """``1,024 of 4,096 frames (25%), 512 frames/s, 6 s left, success .97``."""
    parts = [f"{done:,.0f} of {total:,.0f} {unit} ({done / total if total else 1:.0%})"]
    if rate > 0:
        parts += [rate_in_words(rate, unit), f"{duration(max(0.0, total - done) / rate)} left"]
    return ", ".join([*parts, note] if note else parts)


def rate_in_words(rate: float, unit: str) -> str:
    """``7,218 frames/s``."""
    return f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.1f} {unit}/s"


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``, ``4 d 3 h``, ``12 years``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours >= 2 * 365 * 24:
        return f"{hours / 24 / 365:.3g} years"
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


@contextmanager
def progress(name: str, total: float, unit: str) -> Iterator[Bar]:
    """Show a bar for the work in the block.

    Args:
        name: What is being done (the stage).
        total: Amount of work, in units.
        unit: Plural name of a unit: ``frames``, ``windows``, ``episodes``.
    """
    if quiet():
        yield Bar(total, unit, None, None, name)
        return
    columns = (
        TextColumn("{task.description:<14}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(_title.get() or name, total=total, speed="", note="")
        yield Bar(total, unit, shown, task, name)
