"""Start a config of your own from one of dtx's."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """
  dtx cp agent/ppo mine --as sharp     writes mine/agent/sharp.yaml
  dtx cp analysis/calibration mine     then: dtx run --config-dir mine
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to copy, and where to."""
    parser.add_argument("option", metavar="GROUP/NAME", help="as `dtx ls` shows them")
    parser.add_argument("folder", metavar="DIR", type=Path, help="your folder of configs")
    parser.add_argument("--as", dest="name", metavar="NAME", help="its name there")
    parser.add_argument("--force", action="store_true", help="write over a config that is there")
    parser.add_argument("--config-dir", type=Path, help="copy from your own configs, too")


def main(args: argparse.Namespace) -> int:
    """Copy one YAML file and print the command that uses it."""
    raise NotImplementedError
