"""Show what is in the store: in progress, interrupted, finished."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """
  dtx status                       what is worked on now, what can go on, what is finished
  dtx status --store /data/store --all
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which store, and how much of it."""
    parser.add_argument("--store", type=Path, default=Path("store"), help="default: store")
    parser.add_argument(
        "--all", action="store_true", help="every finished stage, not only the newest"
    )


def main(args: argparse.Namespace) -> int:
    """Print the three lists."""
    raise NotImplementedError
