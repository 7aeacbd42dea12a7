"""Open the MLflow UI on this folder's runs."""

from __future__ import annotations

import argparse
import os
import sys

from dtx.errors import UserError
from dtx.progress import console
from dtx.verbs._arguments import tracking_argument

EXAMPLES = """
  dtx ui
  dtx ui --port 5001 --uri sqlite:////data/mlflow.db
"""
OWN_CLASSES = False


def arguments(parser: argparse.ArgumentParser) -> None:
    """Port, and which runs."""
    parser.add_argument("--port", type=int, default=5000)
    tracking_argument(parser)


def main(args: argparse.Namespace) -> int:
    """Replace this process by MLflow's server."""
    from dtx.tracking import database_of, default_uri

    uri = args.uri or default_uri()
    database = database_of(uri)
    if database is not None and not database.exists():
        raise UserError(
            f"no runs here yet ({uri}): `dtx run` first, or name another place with --uri"
        )
    if uri.startswith(("http://", "https://")):
        raise UserError(f"{uri} is a server and has its own UI: open that address in a browser")
    # Without the job runner the server is 2 processes instead of 10.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # Else uvicorn looks for modules in the working folder first, whatever Python does.
    os.environ["UVICORN_APP_DIR"] = os.devnull
    console.print(f"MLflow UI: http://127.0.0.1:{args.port} (Ctrl-C ends it)")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    os.execv(sys.executable, [*command, "--port", str(args.port)])
