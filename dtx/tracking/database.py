"""MLflow's SQLite database, read without MLflow, whose import takes seconds."""

from __future__ import annotations

import contextlib
import shlex
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dtx.errors import UserError

_WAIT_SECONDS = 20.0  # for another program's lock, as MLflow does
_ASK_SECONDS = 5.0  # the same, where nothing is to be written
_AT_ONCE = 400  # values in a query: SQLite allows 999 in its older versions
WAYS_ON = (
    "name another with tracking.uri=URI, or run with tracking.enabled=false. Nothing was run, "
    "nothing is lost"
)
"""End of a message on a database or server that cannot be used."""


@dataclass(frozen=True)
class KnownRun:
    """What MLflow knows of the run of a stage.

    Attributes:
        key: Of the stage; empty for other runs.
        status: ``RUNNING``, ``FINISHED``, ``FAILED`` or ``KILLED``.
        deleted: Somebody deleted it, by hand or with its experiment; MLflow still has it.
        experiment_id: Of MLflow's experiment, where that was asked for.
    """

    run_id: str
    key: str
    status: str
    deleted: bool
    experiment_id: str = ""


def unmade(database: Path) -> bool:
    """Whether there is no database yet: no file, or an empty one."""
    return not database.exists() or (database.is_file() and database.stat().st_size == 0)


def check(database: Path) -> None:
    """Check that MLflow can read and write a database.

    Raises:
        UserError: It cannot: what is wrong, and what to do.
    """
    with opened(database) as connection:
        connection.execute("BEGIN IMMEDIATE")  # refused where nothing can be written
        connection.execute("SELECT version_num FROM alembic_version").fetchall()
        connection.execute("ROLLBACK")


def known_runs(database: Path, run_ids: Sequence[str], keys: Sequence[str]) -> list[KnownRun]:
    """The runs with these ids, and those of stages with these keys.

    Raises:
        UserError: It cannot be read: what is wrong, and what to do.
    """
    found = []
    with opened(database, _ASK_SECONDS) as connection:
        for column, values in (("runs.run_uuid", run_ids), ("tags.value", keys)):
            for i in range(0, len(values), _AT_ONCE):
                some = values[i : i + _AT_ONCE]
                query = (
                    "SELECT runs.run_uuid, tags.value, runs.status, runs.lifecycle_stage FROM runs "
                    "LEFT JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = 'dtx.key' "
                    f"WHERE {column} IN ({', '.join('?' * len(some))})"
                )
                found += connection.execute(query, some).fetchall()
    return [
        KnownRun(run, key or "", status, stage == "deleted") for run, key, status, stage in found
    ]


def runs_tagged(database: Path, tag: str, value: str) -> list[KnownRun]:
    """The runs with a tag of this value, newest first; their key is left empty.

    Raises:
        UserError: It cannot be read: what is wrong, and what to do.
    """
    query = (
        "SELECT runs.run_uuid, runs.status, runs.lifecycle_stage, runs.experiment_id FROM runs "
        "JOIN tags ON tags.run_uuid = runs.run_uuid WHERE tags.key = ? AND tags.value = ? "
        "ORDER BY runs.start_time DESC"
    )
    with opened(database, _ASK_SECONDS) as connection:
        found = connection.execute(query, (tag, value)).fetchall()
    return [
        KnownRun(run, "", status, stage == "deleted", str(experiment))
        for run, status, stage, experiment in found
    ]


@contextlib.contextmanager
def opened(database: Path, seconds: float = _WAIT_SECONDS) -> Iterator[sqlite3.Connection]:
    """A connection to a database that is there.

    Args:
        database: Its file.
        seconds: To wait for another program's lock.

    Raises:
        UserError: It cannot be used: what is wrong, and what to do.
    """
    if database.exists() and not database.is_file():
        kind = "folder" if database.is_dir() else "device or pipe"
        raise _unusable(database, f"is a {kind}, no database; move it aside")
    try:
        # Without a mode, SQLite would make a missing file; "rw" reads one that cannot be written.
        uri = f"{database.absolute().as_uri()}?mode=rw"
        with contextlib.closing(sqlite3.connect(uri, timeout=seconds, uri=True)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise _unusable(database, _in_words(database, error)) from error


def _in_words(database: Path, error: sqlite3.Error) -> str:
    """What is wrong and what to do."""
    name = error.sqlite_errorname
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "is locked by another program; end that or wait for it"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
        return f"cannot be opened for writing ({error}); make it and its folder writable"
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return f"cannot be written ({error}); make room on its disk or mend that"
    what = (
        "is another program's database"
        if str(error).startswith("no such table")
        else f"is damaged or no database ({error})"
    )
    old, new = shlex.quote(str(database)), shlex.quote(f"{database}.old")
    return f"{what}; `mv {old} {new}`, then `dtx track` fills a new one from the store"


def _unusable(database: Path, what: str) -> UserError:
    return UserError(f"MLflow's database {database} {what}, {WAYS_ON}")
