"""A client of MLflow: new databases, moved ones, those of another version, servers that cannot be reached."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtx.errors import UserError
from dtx.progress import console
from dtx.store.locks import held
from dtx.tracking.database import WAYS_ON, check, unmade
from dtx.tracking.moved import follow
from dtx.tracking.uri import uri_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SCHEMA = re.compile(r"out-of-date database schema \(found version (\w+)")  # MLflow's own words


def client_of(uri: str) -> MlflowClient:
    """A client; the first one imports MLflow, which takes seconds."""
    if uri.startswith(("http://", "https://")):
        # Fail in seconds, not after MLflow's default of minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_ENABLE_ASYNC_LOGGING", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow would report its use
    # Two lines on standard output, and a call, for every run that ends on a server.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    for logger in ("mlflow", "alembic"):  # importing mlflow makes them verbose
        logging.getLogger(logger).setLevel(logging.WARNING)
    # It would print a traceback for each error of a database; we tell the error in a line.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    return MlflowClient(uri, registry_uri=uri)


@contextlib.contextmanager
def connected(uri: str, database: Path | None) -> Iterator[MlflowClient]:
    """A client, in a block that makes errors of MLflow one line.

    A database gets a lock for the block; a fresh one is made, one that was moved follows its project.

    Args:
        uri: Of MLflow.
        database: Its SQLite database, if it is one.

    Raises:
        UserError: It cannot be used: what is wrong, and what to do.
    """
    try:
        if database is None:
            yield client_of(uri)
            return
        database.parent.mkdir(parents=True, exist_ok=True)
        with held(database.parent, database.name):  # a process that waits prints for whom
            if unmade(database):
                _make_database(database)
            check(database)
            client = client_of(uri)
            follow(database)
            yield client
    except UserError:
        raise
    except Exception as error:
        what = f"cannot reach MLflow at {uri}: {short(error)}; start it, {WAYS_ON}"
        if database is not None:
            what = (
                f"MLflow cannot use the database {database}: {short(error)}; mend that, {WAYS_ON}"
            )
        raise UserError(_of_another_schema(uri, str(error)) or what) from error


def _of_another_schema(uri: str, message: str) -> str:
    """What to do with a database that an older or a newer MLflow made; empty: that is not what is wrong."""
    found = _SCHEMA.search(message)
    if not found:
        return ""
    import mlflow

    changes = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    if any(changes.glob(f"{found[1]}_*.py")):
        return (
            f"an older MLflow made the tables at {uri}: keep a copy, then `mlflow db upgrade {uri}` "
            f"brings them up to date; or {WAYS_ON}"
        )
    return (
        f"a newer MLflow than {mlflow.__version__} made the tables at {uri}: install that one "
        f"(`pip install -U mlflow`), {WAYS_ON}"
    )


def _make_database(database: Path) -> None:
    """Make MLflow's tables under another name and rename: a kill leaves a whole database or none.

    The hundred migrations wait for the disk once, at the end, instead of each: 1 s instead of 10.
    """
    from sqlalchemy import Engine, event

    def hurry(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = MEMORY")  # no file that a kill could leave behind

    console.print("[dim]making the MLflow database (seconds, once)[/]")
    partial = database.with_name(database.name + ".partial")
    partial.unlink(missing_ok=True)
    event.listen(Engine, "connect", hurry)
    try:
        client_of(uri_of(partial)).search_experiments(max_results=1)
    finally:
        event.remove(Engine, "connect", hurry)
    with partial.open("rb") as handle:
        os.fsync(handle.fileno())
    for rest in (
        "-journal",
        "-wal",
        "-shm",
    ):  # of a deleted database: SQLite would apply it to this one
        database.with_name(database.name + rest).unlink(missing_ok=True)
    partial.replace(database)


def short(error: BaseException) -> str:
    """The innermost cause in one line: ``Connection refused`` rather than a stack of wrappers."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
