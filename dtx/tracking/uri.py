"""Where MLflow keeps runs, as a URI: of a database, by its path, or of a server."""

from __future__ import annotations

import os
import re
from pathlib import Path

from dtx.errors import UserError
from dtx.store.store import current

_DATABASE = "sqlite:///"
_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")
"""A path that is the same in a URI: SQLAlchemy, whose import takes a third of a second, is not asked."""
_ODD_NAME = "sqlite+pysqlite:///"
"""Of a database whose path holds characters that mean something in a URI. MLflow takes what follows ``sqlite:///``
for a plain path and would make its folders, so that such a path needs the longer name of the same driver."""


def tracking_uri(configured: str | None) -> str:
    """What a config names, else the default."""
    return absolute(configured) if configured else default_uri()


def default_uri(store: Path | None = None) -> str:
    """MLFLOW_TRACKING_URI, else a database beside the store: that in use, or the one named."""
    root = store.absolute() if store else current().root
    return absolute(os.environ.get("MLFLOW_TRACKING_URI") or uri_of(root.parent / "mlflow.db"))


def uri_of(database: Path) -> str:
    """The URI of a database.

    Raises:
        UserError: SQLAlchemy is too old to name a path with such characters.
    """
    path = str(database.absolute())
    if _PLAIN.fullmatch(path):
        return f"{_DATABASE}{path}"
    from sqlalchemy.engine import URL, make_url

    if (plain := f"{_DATABASE}{path}") and make_url(plain).database == path and "%" not in path:
        return plain
    uri = URL.create(_ODD_NAME.partition(":")[0], database=path).render_as_string()
    if make_url(uri).database != path:
        raise UserError(
            f"{path}: this version of SQLAlchemy cannot name such a folder in a URI; install 2.1, or keep "
            "the runs elsewhere (tracking.uri=sqlite:////FOLDER/mlflow.db)"
        )
    return uri


def absolute(uri: str) -> str:
    """A URI that does not depend on the working folder: MLflow's own documentation writes ``sqlite:///mlflow.db``."""
    database = database_of(uri)
    return uri if database is None else uri_of(database)


def database_of(uri: str) -> Path | None:
    """The path of the SQLite database that a URI names; None: it names something else, or one in memory."""
    if not uri.startswith((_DATABASE, _ODD_NAME)):
        return None
    if _PLAIN.fullmatch(plain := uri.removeprefix(_DATABASE)):
        return Path(plain).absolute()
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(uri)
    except ArgumentError:
        return None
    # With a query, the name is SQLite's own kind of URI: left as it is.
    if not url.database or url.database == ":memory:" or url.query:
        return None
    return Path(url.database).expanduser().absolute()
