"""Serve an application to browsers: the port, the names of this machine, the browser, the end by a signal."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from typing import TYPE_CHECKING

import psutil

from dtx.errors import UserError
from dtx.progress import console
from dtx.running.signals import set_handlers

if TYPE_CHECKING:
    from starlette.types import ASGIApp

LOOPBACK = "127.0.0.1"
_LAST = 65535
_TRIED = 50  # ports above one that is taken
_END_SECONDS = 1  # for answers that are being given when the server is told to end


def place_arguments(parser: argparse.ArgumentParser, port: int, about: str) -> None:
    """``--port`` and ``--host``.

    Args:
        parser: Of the verb.
        port: The default one.
        about: What serving beyond this machine means.
    """
    parser.add_argument("--port", type=_port, help=f"default: {port}")
    parser.add_argument(
        "--host",
        default=LOOPBACK,
        help=f"address to serve at (default: {LOOPBACK}, this machine only; {about})",
    )


def _port(text: str) -> int:
    """A number of a port."""
    if text.isascii() and text.isdigit() and 0 < int(text) <= _LAST:
        return int(text)
    raise UserError(f"--port: {text!r} is no port; ports are 1 to {_LAST}")


def listen(host: str, port: int, verb: str) -> socket.socket:
    """Take a port before seconds are spent on imports; who connects early waits for an answer.

    Args:
        host: Address or name of this machine.
        port: Wanted.
        verb: Of the command line, for what to do.

    Raises:
        UserError: Another program has the port, or this machine has no such address.
    """
    family, address = _resolved(host)
    try:
        return socket.create_server((address, port), family=family)
    except OSError as error:
        free = _free_above(family, address, port)
        raise UserError(
            f"--port: {port} cannot be had at {host} ({os.strerror(error.errno or 0)}{_who(port)}); name "
            f"another one, for example `dtx {verb} --port {free}`"
        ) from None


def listen_near(host: str, port: int, verb: str) -> socket.socket:
    """Take a port, or the next free one if that is taken, and say so.

    Raises:
        UserError: This machine has no such address, or no free port there.
    """
    family, address = _resolved(host)
    with contextlib.suppress(OSError):
        return socket.create_server((address, port), family=family)
    free = _free_above(family, address, port)
    console.print(f"[dim]port {port} is taken{_who(port)}; this one is {free}[/]")
    return listen(host, free, verb)


def _resolved(host: str) -> tuple[int, str]:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, 1, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"--host: {host!r} is no address of this machine ({error}); 127.0.0.1 is for this machine "
            "only, 0.0.0.0 for others"
        ) from None
    return family, str(address[0])


def _free_above(family: int, address: str, port: int) -> int:
    """The next port that is free now."""
    for other in range(port + 1, min(port + _TRIED, _LAST) + 1):
        with contextlib.suppress(OSError), socket.create_server((address, other), family=family):
            return other
    return min(port + 1, _LAST)


def _who(port: int) -> str:
    """The program that listens there, as far as this user may know: ``", by python, process 12"``."""
    try:
        found = psutil.net_connections("tcp")
    except psutil.Error:
        return ""
    listening = psutil.CONN_LISTEN
    for one in found:
        if one.status == listening and one.pid and one.laddr[1:] == (port,):
            with contextlib.suppress(psutil.Error):
                return f", by {psutil.Process(one.pid).name()}, process {one.pid}"
    return ""


def in_url(host: str) -> str:
    """A host as it stands in a URL: IPv6 in brackets, without its zone."""
    return f"[{host.partition('%')[0]}]" if ":" in host else host


def own_names() -> set[str]:
    """The names and addresses of this machine, as they stand in a URL."""
    found = {socket.gethostname(), socket.getfqdn()}
    for addresses in psutil.net_if_addrs().values():
        found |= {
            in_url(a.address) for a in addresses if a.family in (socket.AF_INET, socket.AF_INET6)
        }
    return found


def reachable(listening: socket.socket, host: str) -> tuple[str, int, bool]:
    """Name and port of a listening socket in a URL, and whether only this machine reaches it."""
    address, port = listening.getsockname()[:2]
    ip = ipaddress.ip_address(address.partition("%")[0])
    return in_url(socket.gethostname() if ip.is_unspecified else host), port, ip.is_loopback


def serve(application: ASGIApp, listening: socket.socket, started: Callable[[], None]) -> None:
    """Serve until a signal ends it.

    Args:
        application: Of ASGI.
        listening: A socket that listens.
        started: Called once the server answers.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started()

    config = uvicorn.Config(
        application,
        log_level=logging.ERROR,  # what strangers send is no matter for the terminal
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_END_SECONDS,
    )
    server = Server(config)
    before = set_handlers(server.handle_exit)  # of a closed terminal, too
    try:
        server.run([listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def open_browser(link: str) -> None:
    """Open a browser with a window, without waiting; one that runs in the terminal would take that over."""
    threading.Thread(target=_open, args=[link], daemon=True).start()


def _open(link: str) -> None:
    windows = sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    if not (windows and webbrowser.open(link)):
        console.print("[dim]there is no browser here to open it in[/]")
