"""Open the MLflow UI on this folder's runs."""

from __future__ import annotations

import argparse
import os
import socket
import sys

from dtx.errors import UserError
from dtx.progress import console
from dtx.verbs._arguments import tracking_argument

EXAMPLES = """
  dtx ui
  dtx ui --port 5001 --uri sqlite:////data/mlflow.db
"""
OWN_CLASSES = False
_DATABASES = ("sqlite:", "sqlite+", "postgresql", "mysql", "mssql")  # that MLflow can use


def arguments(parser: argparse.ArgumentParser) -> None:
    """Port, and which runs."""
    parser.add_argument("--port", type=_port, default=5000)
    tracking_argument(parser)


def _port(text: str) -> int:
    """A number of a port."""
    if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
        return int(text)
    raise UserError(f"--port: {text!r} is no port; ports are 1 to 65535")


def _require_free(port: int) -> None:
    """Refuse a port that another program has: MLflow's server would end with a traceback."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise UserError(
            f"--port: {port} cannot be had ({os.strerror(error.errno or 0)}); name another one, for example "
            f"`dtx ui --port {min(port + 1, 65535)}`"
        ) from None


def main(args: argparse.Namespace) -> int:
    """Replace this process by MLflow's server."""
    from dtx.tracking import database_of, default_uri
    from dtx.tracking.database import check, unmade

    uri = args.uri or default_uri()
    if uri.startswith(("http://", "https://")):
        raise UserError(f"{uri} is a server and has its own UI: open that address in a browser")
    database = database_of(uri)
    if database is not None:
        if unmade(database):
            raise UserError(
                f"no runs here yet ({uri}): `dtx run` first, or name another place with --uri"
            )
        check(database)
    elif not uri.startswith(_DATABASES):
        raise UserError(
            f"--uri: {uri!r} is neither a database nor a server: sqlite:///mlflow.db is a database here"
        )
    _require_free(args.port)
    # Without the job runner the server is 2 processes instead of 10.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # Else uvicorn looks for modules in the working folder first, whatever Python does.
    os.environ["UVICORN_APP_DIR"] = os.devnull
    console.print(f"MLflow UI: http://127.0.0.1:{args.port} (Ctrl-C ends it)")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    os.execv(sys.executable, [*command, "--port", str(args.port)])
