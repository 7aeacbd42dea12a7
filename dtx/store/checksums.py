"""Size and SHA-256 of files, and how a file differs from what was recorded."""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

DONE = "done.json"
_DIGEST = re.compile(r"[0-9a-f]{64}")


def files_in(record: Mapping[str, Any]) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of an artefact's files by name, as its ``done.json`` lists them.

    Raises:
        ValueError: There is no such list, or it names what can be no file of an artefact.
    """
    listed = record.get("files")
    if not isinstance(listed, Mapping):
        raise ValueError("it lists no files")
    files = {}
    for name, entry in listed.items():
        path = PurePosixPath(name)
        fits = isinstance(entry, (list, tuple)) and len(entry) == 2
        if (
            not fits
            or not isinstance(entry[0], int)
            or entry[0] < 0
            or not _DIGEST.fullmatch(str(entry[1]))
        ):
            raise ValueError(f"{name[:100]!r} has no size and checksum")
        if path.is_absolute() or ".." in path.parts or not path.parts or not name.isprintable():
            raise ValueError(f"{name[:100]!r} is outside the artefact")
        if path.parts == (DONE,):
            raise ValueError(f"it lists {DONE} itself")
        files[name] = (entry[0], str(entry[1]))
    return files


def checksum(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def damage(path: Path, size: int, digest: str) -> str | None:
    """How a file differs from its recorded size and digest, in words; None if it does not."""
    try:
        about = path.lstat()
    except OSError:
        return "is missing"
    if not stat.S_ISREG(about.st_mode):  # a link may lead anywhere, a pipe waits for ever
        return "is not a file of its own"
    if about.st_size != size:
        return f"has {about.st_size} bytes instead of {size}"
    if checksum(path) != digest:
        return "is not what was written (its checksum differs)"
    return None
