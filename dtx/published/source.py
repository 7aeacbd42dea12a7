"""The file that an imported stage is made from; needed once, named for good by its digest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from dtx.errors import UserError
from dtx.stage import Stage


def check_digest(digest: str) -> Iterator[tuple[str, str]]:
    """For a stage's ``check()``: what is wrong with its field ``digest``."""
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        yield (
            "digest",
            "is no SHA-256 of a file: 64 hexadecimal digits; `dtx import FILE` writes it",
        )


def found(stage: Stage, file: Path | None, digest: str) -> Path:
    """The file, if it is there and is the one that was imported.

    Raises:
        UserError: It is not, with what to do.
    """
    from dtx.published.checkpoint import digest_of

    again = f"`dtx import FILE` puts the file with SHA-256 {digest[:12]}... there again"
    if file is None or not file.is_file():
        where = "names no file" if file is None else f"was made from {file}, which is gone"
        raise UserError(f"{stage.label} is not in the store and {where}; {again}")
    if digest_of(file) != digest:
        raise UserError(f"{file}: is not the file that {stage.label} was imported from; {again}")
    return file
