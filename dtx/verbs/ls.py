"""List the configs one can choose."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """
  dtx ls                           every group and its options
  dtx ls agent
  dtx ls --config-dir mine experiment
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which group."""
    parser.add_argument("group", nargs="?", help="one group: agent, dt, analysis, experiment")
    parser.add_argument("--config-dir", type=Path, help="your own configs, listed beside dtx's")


def main(args: argparse.Namespace) -> int:
    """Print groups with their options."""
    raise NotImplementedError
