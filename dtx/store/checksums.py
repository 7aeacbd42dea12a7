"""Size and SHA-256 of files, and how a file differs from what was recorded."""

from __future__ import annotations

import hashlib
from pathlib import Path


def checksum(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def damage(path: Path, size: int, digest: str) -> str | None:
    """How a file differs from its recorded size and digest, in words; None if it does not."""
    try:
        actual = path.stat().st_size
    except OSError:
        return "is missing"
    if actual != size:
        return f"has {actual} bytes instead of {size}"
    if checksum(path) != digest:
        return "is not what was written (its checksum differs)"
    return None
