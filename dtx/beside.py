"""Files and folders outside the store: built beside their place, and put there by a rename.

A command that is killed leaves its destination as it was, and a folder ``.building+...`` beside it, which
the next command that writes there removes. The same command then completes.
"""

from __future__ import annotations

import filecmp
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dtx.errors import UserError
from dtx.report import sync_folder
from dtx.running.processes import of_killed, process_name

BUILDING = ".building+"
"""Begin of the names of folders in which something is built; Minari does not list hidden ones."""


@contextmanager
def building(destination: Path, root: Path | None = None) -> Iterator[Path]:
    """A new folder on the file system of ``destination``, to build in what :func:`put` puts there.

    It is removed at the end, and so are those of killed processes. Those of living ones stay.

    Args:
        destination: The file or folder that is to be written.
        root: A folder above that the user named, and below which nothing may be a link; default: the
            destination, which may be none itself.

    Raises:
        UserError: There is a link on the way.
    """
    _refuse_links(destination, root)
    # In the destination if that is there: its parent may be another disk, or not ours to write in.
    place = destination if destination.is_dir() else destination.parent
    place.mkdir(parents=True, exist_ok=True)
    for left in of_killed(place, BUILDING):
        shutil.rmtree(left, ignore_errors=True)
    scratch = place / f"{BUILDING}{secrets.token_hex(4)}+{process_name()}"
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def put(
    new: Path,
    destination: Path,
    advice: str,
    *,
    replace: bool = False,
    root: Path | None = None,
) -> bool:
    """Move a file, or a folder with what is in it, to its place; both are on one file system.

    Where a folder is there already, the files that it lacks are added. What else is in it stays.

    Args:
        new: What was built.
        destination: Its place.
        advice: What to do if another content is there, for the message.
        replace: Whether files with another content are replaced, each by a rename.
        root: As for :func:`building`.

    Returns:
        Whether something was written; False if all was there already.

    Raises:
        UserError: Another content is there, or a link that leads elsewhere. Nothing was written.
    """
    files = [p.relative_to(new) for p in new.rglob("*") if p.is_file()] if new.is_dir() else [None]
    names = [Path() if file is None else file for file in sorted(files, key=str)]
    for name in names:
        _refuse_links(destination / name, root if root is not None else destination.parent)
    there = [name for name in names if (destination / name).exists()]
    if destination.exists() and destination.is_dir() != new.is_dir():
        kind = "folder" if destination.is_dir() else "file"
        raise UserError(f"{destination} exists already, and is a {kind}: {advice}")
    other = [name for name in there if not _equal(new / name, destination / name)]
    if other and not replace:
        raise UserError(f"{destination / other[0]} exists already, with another content: {advice}")
    _sync(new)
    destination.parent.mkdir(parents=True, exist_ok=True)
    if new.is_file() or not destination.exists():
        if other or not there:
            new.replace(destination)
            sync_folder(destination.parent)
        return bool(other or not there)
    todo = [name for name in names if name in other or name not in there]
    for name in todo:
        (destination / name).parent.mkdir(parents=True, exist_ok=True)
        (new / name).replace(destination / name)
    for folder in {(destination / name).parent for name in todo}:
        sync_folder(folder)
    return bool(todo)


def free_disk(place: Path) -> float:
    """Bytes that are free where a folder is, or would be."""
    place = place.absolute()
    while not place.exists():
        place = place.parent
    return float(shutil.disk_usage(place).free)


def _refuse_links(path: Path, root: Path | None) -> None:
    """Raise a UserError if a path, or a folder between it and ``root``, is a link."""
    for part in (path, *path.parents):
        if part == root:
            return
        if part.is_symlink():
            raise UserError(
                f"{part} is a link, and dtx does not write through one: give another place"
            )
        if root is None:
            return


def _equal(one: Path, two: Path) -> bool:
    return two.is_file() and filecmp.cmp(one, two, shallow=False)


def _sync(new: Path) -> None:
    """Have the disk know all content before a name promises it."""
    for path in (new, *new.rglob("*")):
        if path.is_dir():
            sync_folder(path)
            continue
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
