"""Text for people: lines on standard error, aligned columns, short paths, hints for a wrong name."""

from __future__ import annotations

import difflib
import errno
import hashlib
import io
import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", re.ASCII)


def file_name(text: str) -> str:
    """A file's name for any text: at most 100 ASCII characters, no folder, and another one for another text.

    Plain texts stay as they are; others keep what is plain in them and get 16 digits of their hash.
    """
    if _PLAIN_NAME.fullmatch(text):
        return text
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", text)[:60].lstrip("-")
    # No plain text holds a tilde.
    return f"{plain}~{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:16]}"


_USER = re.compile(r"(?<=://)[^\s/@'\"]+(?=@)")
_SECRET = re.compile(
    r"(?i)(?<=[?&])((?:[\w-]*(?:password|passwd|token|secret|signature|key)|sig)=)[^&\s'\"\\]+"
)


def discreet(text: str) -> str:
    """A text without what lets somebody in: users and passwords in URLs, and tokens in their queries.

    For all that is printed, written to the store or sent to MLflow.
    """
    if "://" not in text:
        return text
    return _SECRET.sub(r"\1***", _USER.sub("***", text))


def printable(text: str) -> str:
    """A text in which nothing commands the terminal: control characters are written out, line ends stay.

    Names and messages may come from the record of somebody else's artefact.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


copies: list[TextIO] = []
"""Files that get a copy of what is said: logs."""


def say(line: str) -> None:
    """Print one line to standard error, marked as dtx's."""
    for file in (sys.stderr, *copies):
        print(f"dtx: {printable(discreet(line))}", file=file)


class _Lasting(io.FileIO):
    """A terminal or pipe that may go away while the command goes on: what is printed then is lost."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EPIPE):
                raise
            return len(data)


@contextmanager
def lasting_output() -> Iterator[None]:
    """Printing to standard error does not fail when its terminal or the reader of its pipe has gone."""
    before = sys.stderr
    try:
        kind = os.fstat(before.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # none, a notebook's or a test's
        kind = 0
    if not (stat.S_ISCHR(kind) or stat.S_ISFIFO(kind)):
        yield
        return
    raw = _Lasting(before.fileno(), "w", closefd=False)
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(raw), before.encoding, "backslashreplace", line_buffering=True
    )
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = before


def near(path: Path) -> Path:
    """The path relative to the working directory if it lies in it, else the absolute path."""
    path = path.absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text with their columns aligned; plain, so that other programs can read them."""
    rows = [[printable(cell) for cell in row] for row in rows]
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


def bytes_in_words(size: float) -> str:
    """``340 B``, ``1.2 MB``, ``48 GB``, ``57 EB``."""
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.3g} EB"
