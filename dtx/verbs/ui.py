"""Open the MLflow UI on this folder's runs."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import os
import socket
import sys
import threading
import webbrowser
from pathlib import Path

from rich.markup import escape

from dtx.errors import Interrupted, UserError
from dtx.progress import console
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
    parser.add_argument("--port", type=_port, default=PORT, help=f"default: {PORT}")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to serve at (default: 127.0.0.1, this machine only; the UI has no login)",
    )
    parser.add_argument("--open", action="store_true", help="open it in a browser of this machine")
    tracking_argument(parser)


def _port(text: str) -> int:
    """A number of a port."""
    if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
        return int(text)
    raise UserError(f"--port: {text!r} is no port; ports are 1 to 65535")


def main(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    from dtx.tracking import default_uri
    from dtx.tracking.uri import absolute

    uri = absolute(args.uri) if args.uri else default_uri()
    database = _database(uri)
    with _listen(args.host, args.port) as listening:
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


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before seconds are spent on MLflow; who connects early waits for an answer.

    Raises:
        UserError: Another program has it, or this machine has no such address.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"--host: {host!r} is no address of this machine ({error}); 127.0.0.1 is for this machine "
            "only, 0.0.0.0 for others"
        ) from None
    try:
        return socket.create_server((address[0], port), family=family)
    except OSError as error:
        raise UserError(
            f"--port: {port} cannot be had at {host} ({os.strerror(error.errno or 0)}); name another one, "
            f"for example `dtx ui --port {min(port + 1, 65535)}`"
        ) from None


def _serve(
    uri: str, database: Path | None, listening: socket.socket, args: argparse.Namespace
) -> None:
    from dtx.tracking.connection import connected
    from dtx.tracking.links import page
    from dtx.tracking.served import in_url, landing, let_in, own_names, serve

    address, port = listening.getsockname()[:2]
    ip = ipaddress.ip_address(address)
    name = in_url(socket.gethostname() if ip.is_unspecified else args.host)
    if not ip.is_loopback:
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
            threading.Thread(target=_open, args=[link], daemon=True).start()

    serve(uri, listening, runs, started)


def _open(link: str) -> None:
    """Open a browser with a window; one that runs in the terminal would take that over."""
    windows = sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    if not (windows and webbrowser.open(link)):
        console.print("[dim]there is no browser here to open it in[/]")
