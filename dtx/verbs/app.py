"""Open the explorer: play an environment, steer a model, see why."""

from __future__ import annotations

import argparse
import contextlib
import secrets
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from dtx.errors import Interrupted, UserError
from dtx.progress import console
from dtx.serving import (
    listen,
    listen_near,
    open_browser,
    own_names,
    place_arguments,
    reachable,
    serve,
)
from dtx.verbs._arguments import as_path, config_dir_argument, store_argument

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from dtx.app.asked import Explorer
    from dtx.app.scene import Scene

EXAMPLES = """
  dtx app                                every model of ./store, or the one that ships with dtx
  dtx app --scene '#1&m=0643&w=key/left&a=ffff&r=.892'
  dtx app --pair declared-1a2b#17        a stored pair
  dtx app --scene '#...' --yaml          what `dtx run` needs for the same, without a browser
  dtx app --scene '#...' --save it.html  one file that plays without a server
  dtx app --host 0.0.0.0                 for other machines, by a token that is printed

Reads the store and writes nothing. Prints the page's address once it can be opened. Ctrl-C ends it.
"""
OWN_CLASSES = True
PORT = 5050
"""Of the page, unless ``--port`` names another or it is taken."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which models, which scene, and where it is served."""
    store_argument(parser)
    config_dir_argument(parser, "your own environments and pairs")
    place_arguments(parser, PORT, "others need the token that is printed")
    parser.add_argument(
        "--no-browser", action="store_true", help="print the address, open no browser"
    )
    parser.add_argument("--panels", type=as_path, metavar="DIR", help="your own panels")
    parser.add_argument(
        "--sae",
        type=as_path,
        metavar="DIR",
        action="append",
        default=[],
        help="a sparse autoencoder in SAELens's format, or a folder of them; may be repeated",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--scene", metavar="'#...'", help="what follows the page's address")
    what.add_argument(
        "--pair", metavar="LABEL#NUMBER", help="a pair of the store: declared-1a2b#17"
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--yaml", action="store_true", help="print the scene's pairs file, and end"
    )
    instead.add_argument(
        "--save", type=as_path, metavar="FILE", help="write the scene as one HTML file, and end"
    )


def main(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C; or print or write a scene."""
    if args.yaml or args.save:
        with _explorer(args) as found:
            _write(found, args)
        return 0
    with _listening(args) as listening:
        console.print("[dim]the explorer starts (seconds)[/]")
        with (
            contextlib.suppress(Interrupted),  # before it serves; then it returns
            _explorer(args) as found,
        ):
            _serve(found, listening, args)
    console.print("[dim]the explorer has ended[/]")
    return 0


@contextlib.contextmanager
def explorer(
    store: Path,
    config_dir: Path | None = None,
    panels: Path | None = None,
    dictionaries: Iterable[Path] = (),
) -> Iterator[Explorer]:
    """Of a store, if there is one, and of the models that ship with dtx; the planted one is compiled.

    Args:
        store: Its folder, which need not be there.
        config_dir: The user's own configs.
        panels: The user's own panels.
        dictionaries: Folders of sparse autoencoders.

    Raises:
        UserError: The store or the panels are no folder.
    """
    from dtx.app.asked import Explorer
    from dtx.app.demo import entries
    from dtx.app.models import Catalogue
    from dtx.store.store import Store

    with tempfile.TemporaryDirectory(prefix="dtx-app-") as scratch:
        shipped = entries(Path(scratch))
        yield Explorer(Catalogue(Store(store), config_dir, shipped), panels, dictionaries)


def _explorer(args: argparse.Namespace) -> AbstractContextManager[Explorer]:
    for folder in args.sae:
        if not folder.is_dir():
            raise UserError(f"--sae: no folder {folder}")
    return explorer(args.store, args.config_dir, args.panels, args.sae)


def _listening(args: argparse.Namespace) -> socket.socket:
    """The port that was asked for, or the usual one or the next that is free."""
    if args.port is not None:
        return listen(args.host, args.port, "app")
    return listen_near(args.host, PORT, "app")


def _serve(found: Explorer, listening: socket.socket, args: argparse.Namespace) -> None:
    import torch

    from dtx.app.address import address
    from dtx.app.engine import Engine
    from dtx.app.page_files import files
    from dtx.app.server import Server

    # Once, for all threads: models this small gain little from more, and each lane has a core then.
    torch.set_num_threads(1)
    fragment = "" if args.scene is args.pair is None else address(_scene(found, args))
    name, port, only_here = reachable(listening, args.host)
    token = None if only_here else secrets.token_urlsafe(24)
    if token is not None:
        fragment = f"#token={token}&{fragment.removeprefix('#')}".rstrip("&")
    panels = found.panels.values()
    server = Server(
        lambda: Engine(found),
        {panel.name: panel.when for panel in panels},
        files(panel.script for panel in panels),
        set() if only_here else own_names() | {name},
        token,
        args.store.absolute(),
    )
    link = f"http://{name}:{port}/{fragment}"

    def started() -> None:
        line = f"explorer: {link} (Ctrl-C ends it)"
        console.print(line, soft_wrap=True, highlight=False, markup=False)
        server.warm()
        if not args.no_browser:
            open_browser(link)

    try:
        serve(server.application, listening, started)
    finally:
        server.close()


def _scene(found: Explorer, args: argparse.Namespace) -> Scene:
    """The scene that was asked for; what was wrong with it is said."""
    from dtx.app.address import parse
    from dtx.app.stored_pair import scene_of

    if args.pair is not None:
        return scene_of(args.pair, found.catalogue)
    scene, told = parse(args.scene or "")
    for message in told:
        console.print(f"--scene: {message.part}: {message.problem}", markup=False)
    return scene


def _write(found: Explorer, args: argparse.Namespace) -> None:
    """Print the scene's YAML, or write its file."""
    scene = _scene(found, args)
    if args.yaml:
        print(found.text(scene.json(), "yaml"), end="")
    else:
        from dtx.app.onefile import of_scene

        made = of_scene(found, scene)
        args.save.write_text(made.text, encoding="utf-8")
        console.print(f"{args.save}: {made.size / 1e6:.1f} MB; open it in a browser", markup=False)
