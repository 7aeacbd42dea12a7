"""Delete what no preset and no named run reaches (shown first; deleted with --delete)."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """
  dtx gc                           what would go and what stays, each with the reason
  dtx gc --delete --keep ppo-3f0c  do it, and keep this artefact too
  dtx gc --forget lr_sweep         no longer keep what the run of this name reaches
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which store, and what counts as needed."""
    parser.add_argument("--store", type=Path, default=Path("store"), help="default: store")
    parser.add_argument("--delete", action="store_true", help="do it; without this only a list")
    parser.add_argument(
        "--keep",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="beginnings of folder names to keep, with all that they were made from",
    )
    parser.add_argument(
        "--older",
        type=float,
        default=7.0,
        metavar="DAYS",
        help="unfinished work goes when untouched for so long (default: 7)",
    )
    parser.add_argument("--config-dir", type=Path, help="presets here keep what they reach, too")
    parser.add_argument("--forget", metavar="RUN", help="forget a named run")


def main(args: argparse.Namespace) -> int:
    """List, and delete if told so."""
    raise NotImplementedError
