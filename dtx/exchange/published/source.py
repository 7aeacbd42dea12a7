"""Source of an imported stage: a file or folder, identified by its SHA-256."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from dtx.errors import UserError
from dtx.files import refuse_links

MODEL_FILES = ("weights.safetensors", "model.json", "circuit.json")
"""Files of an exported folder that its digest covers."""


def check_digest(digest: str) -> Iterator[tuple[str, str]]:
    """For a stage's ``check()``: what is wrong with its field ``digest``."""
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        yield (
            "digest",
            "is not the SHA-256 of a file: 64 hexadecimal digits; `dtx import FILE` writes it",
        )


def digest_of(path: Path) -> str:
    """SHA-256 of a file's bytes; of an exported folder, of the files that make the model.

    Raises:
        UserError: It cannot be read, or the folder holds a link.
    """
    from dtx.exchange.published.checkpoint import digest_of as digest_of_file

    if not path.is_dir():
        return digest_of_file(path)
    refuse_links(path)
    there = [path / name for name in MODEL_FILES if (path / name).is_file()]
    digests = "".join(f"{file.name} {digest_of_file(file)}\n" for file in there)
    return hashlib.sha256(digests.encode()).hexdigest()


def copy_beside(folder: Path, out: Path) -> None:
    """Copy the descriptions in an exported folder: lineage, known circuit, published configs."""
    for name in ("lineage.json", "circuit.json", "published.json"):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)


def verified(file: Path | None, digest: str, label: str) -> Path:
    """The file or folder, after a check that it is the one that was imported.

    Args:
        file: As the config says.
        digest: Of the file that was imported.
        label: Of the stage, for messages.

    Raises:
        UserError: It is missing or has another digest.
    """
    again = f"`dtx import FILE` puts the file with SHA-256 {digest[:12]}... there again"
    if file is None or not file.exists():
        where = "names no file" if file is None else f"was made from {file}, which is gone"
        raise UserError(f"{label} is not in the store and {where}; {again}")
    if digest_of(file) != digest:
        raise UserError(f"{file}: is not the file that {label} was imported from; {again}")
    return file
