"""The verbs of the command line, one file each.

A verb's file has a docstring (its first line is the help text), ``EXAMPLES``, ``arguments(parser)`` and
``main(args)``, which gives the exit status. Nothing heavy is imported before ``main``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def override_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of every verb that composes an experiment or a sweep."""
    parser.add_argument(
        "--config-dir",
        type=Path,
        help="your own configs, searched beside dtx's (default: ./conf, if there)",
    )
    parser.add_argument("-m", "--multirun", action="store_true", help="a sweep: name=value,value")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides: group=name, field=value")


def near(path: Path) -> Path:
    """The path relative to the working directory where that is shorter."""
    path = path.absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text with their columns aligned; plain, so that other programs can read them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
