"""The file or folder that an imported stage is made from; needed once, named for good by its digest."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from dtx.errors import UserError
from dtx.stage import Stage

MODEL_FILES = ("weights.safetensors", "model.json", "circuit.json")
"""What of an exported folder its digest is of."""


def check_digest(digest: str) -> Iterator[tuple[str, str]]:
    """For a stage's ``check()``: what is wrong with its field ``digest``."""
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        yield (
            "digest",
            "is no SHA-256 of a file: 64 hexadecimal digits; `dtx import FILE` writes it",
        )


def digest_of(path: Path) -> str:
    """SHA-256 of a file's bytes; of an exported folder, of the files that make the model.

    Raises:
        UserError: It cannot be read.
    """
    from dtx.exchange.published.checkpoint import digest_of as digest_of_file

    if not path.is_dir():
        return digest_of_file(path)
    there = [path / name for name in MODEL_FILES if (path / name).is_file()]
    told = "".join(f"{file.name} {digest_of_file(file)}\n" for file in there)
    return hashlib.sha256(told.encode()).hexdigest()


def copy_beside(folder: Path, out: Path) -> None:
    """Keep what an exported folder tells of its model: where it comes from, a known circuit, configs."""
    for name in ("lineage.json", "circuit.json", "published.json"):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)


def found(stage: Stage, file: Path | None, digest: str) -> Path:
    """The file or folder, if it is there and is the one that was imported.

    Raises:
        UserError: It is not, with what to do.
    """
    again = f"`dtx import FILE` puts the file with SHA-256 {digest[:12]}... there again"
    if file is None or not file.exists():
        where = "names no file" if file is None else f"was made from {file}, which is gone"
        raise UserError(f"{stage.label} is not in the store and {where}; {again}")
    if digest_of(file) != digest:
        raise UserError(f"{file}: is not the file that {stage.label} was imported from; {again}")
    return file
