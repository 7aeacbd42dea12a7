"""A project folder that was moved, renamed or copied: MLflow's database follows it.

MLflow writes down where the files of runs lie as absolute paths, when an experiment and a run are made. dtx
keeps them in ``mlartifacts`` beside the database. Where the database names another such folder, the project
has been moved or copied since; its records are changed to the folder in which it lies now.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from rich.markup import escape

from dtx.progress import console
from dtx.tracking.database import opened

FOLDER = "mlartifacts"
_PATHS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Columns with the place of files, under :data:`FOLDER`."""

_MENTIONS = (("datasets", "dataset_source"), ("logged_model_tags", "tag_value"))
"""Columns that name an artefact of the store, as URI or path."""


def follow(database: Path) -> None:
    """Change the records of a database that was moved or copied with its project; hold its lock.

    All or nothing, once; the place that it came from is neither read nor written.

    Raises:
        UserError: It cannot be written: what is wrong, and what to do.
    """
    here = database.parent.resolve()
    with opened(database) as connection:
        if not _strangers(connection, here):  # the usual case takes no lock of the database
            return
        connection.execute("BEGIN IMMEDIATE")
        for old in _strangers(connection, here):
            _change(connection, old, here)
            console.print(
                f"[dim]this project was at {escape(str(old))}: its MLflow database now names "
                f"{escape(str(here))}[/]",
                soft_wrap=True,
            )
            if not (here / FOLDER).exists() and (old / FOLDER).exists():
                console.print(
                    "[yellow]files of earlier runs are not here; to see them in MLflow, copy "
                    f"{escape(str(old / FOLDER))} to {escape(str(here / FOLDER))}[/]",
                    soft_wrap=True,
                )
        connection.execute("COMMIT")


def _strangers(connection: sqlite3.Connection, here: Path) -> list[Path]:
    """Other project folders in which dtx's experiments have their files by the records."""
    found = connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
    folders = {
        Path(url2pathname(urlsplit(place).path)).parent
        for (place,) in found
        if place and place.startswith("file:///") and place.endswith(f"/{FOLDER}")
    }
    return sorted(f for f in folders if f != here and not _same(f, here))


def _same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one folder, by a symbolic link or a mount."""
    try:
        return one.samefile(other)
    except OSError:  # it is not there any more
        return False


def _change(connection: sqlite3.Connection, old: Path, new: Path) -> None:
    """Replace one project folder by another in all records."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    for table, column in _PATHS:
        before, after = ((folder / FOLDER).as_uri() for folder in (old, new))
        if table in tables:
            _replace(connection, table, column, "", before, after)
    for table, column in _MENTIONS:
        if table in tables:
            _replace(connection, table, column, '{"uri": "', old.as_uri(), new.as_uri())
            _replace(connection, table, column, "", str(old), str(new))


def _replace(
    connection: sqlite3.Connection, table: str, column: str, lead: str, before: str, after: str
) -> None:
    """Replace the folder at the start of a column, after ``lead``, where a whole name ends."""
    start = lead + before
    connection.execute(
        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
        f"WHERE substr({column}, 1, ?) = ? AND substr({column}, ?, 1) IN ('', '/')",
        [lead + after, len(start) + 1, len(start), start, len(start) + 1],
    )
