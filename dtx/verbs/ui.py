"""Open the MLflow UI on this folder's runs."""

from __future__ import annotations

import argparse
import contextlib
import socket
from pathlib import Path

from rich.markup import escape

from dtx.errors import Interrupted, UserError
from dtx.progress import console
from dtx.serving import in_url, listen, open_browser, own_names, place_arguments, reachable
from dtx.tracking.links import PORT
from dtx.verbs._arguments import tracking_argument

EXAMPLES = """
  dtx ui
  dtx ui --open
  dtx ui --port 5001 --uri sqlite:////data/mlflow.db
  dtx ui --host 0.0.0.0                  for other machines; there is no login

Prints the address of the list of runs once it can be opened. Ctrl-C ends it.
"""
OWN_CLASSES = False
_DATABASES = ("sqlite:", "sqlite+", "postgresql", "mysql", "mssql")  # that MLflow can use


def arguments(parser: argparse.ArgumentParser) -> None:
    """Where it is served, and which runs."""
    place_arguments(parser, PORT, "the UI has no login")
    parser.add_argument("--open", action="store_true", help="open it in a browser of this machine")
    tracking_argument(parser)


def main(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    from dtx.tracking import default_uri
    from dtx.tracking.uri import absolute

    uri = absolute(args.uri) if args.uri else default_uri()
    database = _database(uri)
    with listen(args.host, args.port or PORT, "ui") as listening:
        console.print("[dim]MLflow's UI starts (seconds)[/]")
        with contextlib.suppress(Interrupted):  # before it serves; then it returns
            _serve(uri, database, listening, args)
    console.print("[dim]MLflow's UI has ended[/]")
    return 0


def _database(uri: str) -> Path | None:
    """The SQLite database that is to be shown; None: another one.

    Raises:
        UserError: It is none, has no runs, or cannot be used.
    """
    from dtx.tracking import database_of
    from dtx.tracking.database import check, unmade

    if uri.startswith(("http://", "https://")):
        raise UserError(f"{uri} is a server and has its own UI: open that address in a browser")
    database = database_of(uri)
    if database is not None:
        if unmade(database):
            raise _no_runs(uri)
        check(database)
    elif not uri.startswith(_DATABASES):
        raise UserError(
            f"--uri: {uri!r} is neither a database nor a server: sqlite:///mlflow.db is a database here"
        )
    return database


def _no_runs(uri: str) -> UserError:
    return UserError(f"no runs here yet ({uri}): `dtx run` first, or name another place with --uri")


def _serve(
    uri: str, database: Path | None, listening: socket.socket, args: argparse.Namespace
) -> None:
    from dtx.tracking.connection import connected
    from dtx.tracking.links import page
    from dtx.tracking.served import landing, let_in, serve

    name, port, only_here = reachable(listening, args.host)
    if not only_here:
        console.print(
            f"[yellow]the UI has no login: whoever reaches {escape(name)}:{port} can read, change and "
            "delete all runs[/]",
            soft_wrap=True,
        )
        let_in(own_names() | {in_url(args.host)}, port)
    with connected(uri, database) as client:
        experiment_id = landing(client)
    if experiment_id is None:
        raise _no_runs(uri)
    runs = page(experiment_id)

    def started() -> None:
        link = f"http://{name}:{port}/{runs}"
        line = f"runs: {link} (Ctrl-C ends it)"
        console.print(line, soft_wrap=True, highlight=False, markup=False)
        if args.open:
            open_browser(link)

    serve(uri, listening, runs, started)
