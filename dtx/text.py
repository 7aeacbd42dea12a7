"""Text for people: lines on standard error, aligned columns, short paths, hints for a wrong name."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path


def say(line: str) -> None:
    """Print one line to standard error, marked as dtx's."""
    print(f"dtx: {line}", file=sys.stderr)


def near(path: Path) -> Path:
    """The path relative to the working directory if it lies in it, else the absolute path."""
    path = path.absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text with their columns aligned; plain, so that other programs can read them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def suggest(name: str, known: Sequence[str]) -> str:
    """A hint for a wrong name: the nearest name that exists, else all of them."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (there are: {', '.join(map(str, known))})" if known else ""


def first_line(error: Exception) -> str:
    """The first line that an error prints, or the name of its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
