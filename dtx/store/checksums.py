"""Size and SHA-256 of files, and how a file differs from what was recorded."""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

DONE = "done.json"
_MOST = 2**50
"""Bytes: a size that no file has; sums of sizes stay numbers that can be shown."""
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
            or type(entry[0]) is not int
            or not 0 <= entry[0] <= _MOST
            or not _DIGEST.fullmatch(str(entry[1]))
        ):
            raise ValueError(f"{name[:100]!r} has no size and checksum")
        if path.is_absolute() or ".." in path.parts or not path.parts or not name.isprintable():
            raise ValueError(f"{name[:100]!r} is outside the artefact")
        if str(path) != name:  # two names would be one file
            raise ValueError(f"{name[:100]!r} is another way to write {str(path)[:100]!r}")
        if path.parts[0].casefold() == DONE:  # on some systems the same file
            raise ValueError(f"it lists {DONE} itself")
        files[name] = (entry[0], str(entry[1]))
    for name in files:
        if inside := next((p for p in PurePosixPath(name).parents if str(p) in files), None):
            raise ValueError(f"{str(inside)[:100]!r} is a file and a folder")
    return files


_KINDS: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("stage", "key", "class", "finished", "summary", "role"), str),
    **dict.fromkeys(("config", "inputs", "packages", "mlflow", "parameters"), Mapping),
    **dict.fromkeys(("seconds", "cpu_seconds", "peak_memory_mb"), (int, float)),
    "git": (Mapping, type(None)),
    "env_id": (str, type(None)),
    "records": Mapping,
}


def check_record(record: Any) -> dict[str, Any]:
    """A record, after a check that those of its fields which are there are of their kinds.

    Args:
        record: Content of a ``done.json``, or of an exported folder's ``lineage.json``.

    Raises:
        ValueError: One is not: which.
    """
    if not isinstance(record, dict):
        raise ValueError("it is no record")
    for name, kind in _KINDS.items():
        if name in record and not isinstance(record[name], kind):
            raise ValueError(f"{name} is {str(record[name])[:50]!r}")
    for name, label in record.get("inputs", {}).items():
        if not isinstance(label, str) or not label.isprintable() or "/" in label:
            raise ValueError(f"inputs.{name} is {str(label)[:50]!r}, not a label")
    for inner in record.get("records", {}).values():
        check_record(inner)
    return record


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


def files_of(artefact: Path, folder: str = "") -> dict[str, list[Any]]:
    """Size and SHA-256 of an artefact's files by relative path; of those in one folder, if given."""
    paths = {p.relative_to(artefact).as_posix(): p for p in (artefact / folder).rglob("*")}
    files = {name: p for name, p in sorted(paths.items()) if p.is_file() and name != DONE}
    return {name: [p.stat().st_size, checksum(p)] for name, p in files.items()}
