"""Whether a file is what was written: size and SHA-256."""

from __future__ import annotations

import hashlib
from pathlib import Path


def checksum(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def damage(path: Path, size: int, digest: str) -> str | None:
    """What is wrong with a file, in words; None if it is what was written."""
    try:
        found = path.stat().st_size
    except OSError:
        return "is missing"
    if found != size:
        return f"has {found} bytes instead of {size}"
    if checksum(path) != digest:
        return "is not what was written (its checksum differs)"
    return None
