"""Run a preset and compare its numbers with those expected."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """
  dtx reproduce memory_dt
  dtx reproduce memory_dt store.path=/data/store
  dtx reproduce mine --config-dir ~/mine --expected ~/mine/expected.json
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which preset, and against what."""
    parser.add_argument("preset", metavar="PRESET", help="as `dtx ls experiment` shows them")
    parser.add_argument(
        "--expected", type=Path, help="default: experiments/PRESET/expected.json of the clone"
    )
    parser.add_argument("--config-dir", type=Path, help="your own configs, searched beside dtx's")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides: group=name, field=value")


def main(args: argparse.Namespace) -> int:
    """Print a table of number, measured, tolerance, ok."""
    raise NotImplementedError
