"""One progress bar a stage: amount done, rate, time left and a short note."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

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

console = Console(stderr=True, highlight=False)


def quiet() -> bool:
    """No moving bars in CI or when standard error is not a terminal."""
    return bool(os.environ.get("CI")) or not sys.stderr.isatty()


class Bar:
    """Handle on the stage's bar."""

    def __init__(self, total: float, unit: str, progress: Progress | None, task: TaskID | None):
        self.total, self.unit = total, unit
        self._progress, self._task = progress, task
        self._start, self._done = time.monotonic(), 0.0

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Add to the amount done; ``note`` replaces the text at the end (success .97)."""
        self.move_to(self._done + amount, note)

    def move_to(self, done: float, note: str = "") -> None:
        """Set the amount done."""
        self._done = done
        if self._progress is None or self._task is None:
            return
        rate = done / max(time.monotonic() - self._start, 1e-6)
        speed = f"{rate:,.0f} {self.unit}/s" if rate >= 10 else f"{rate:.1f} {self.unit}/s"
        self._progress.update(self._task, completed=done, speed=speed, note=note)


@contextmanager
def progress(name: str, total: float, unit: str) -> Iterator[Bar]:
    """Show a bar for the work in the block.

    Args:
        name: What is being done (the stage).
        total: Amount of work, in units.
        unit: Plural name of a unit: ``frames``, ``windows``, ``episodes``.
    """
    if quiet():
        yield Bar(total, unit, None, None)
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
        task = shown.add_task(name, total=total, speed="", note="")
        yield Bar(total, unit, shown, task)
