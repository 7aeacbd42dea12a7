"""Set artefacts aside so that the next run computes them again."""

from __future__ import annotations

import argparse

from dtx.errors import UserError
from dtx.text import near
from dtx.verbs._arguments import store_argument

EXAMPLES = """
  dtx invalidate ppo-3f0c          one artefact (moved to store/.invalid, not deleted)
  dtx invalidate calibration       all of a stage
"""
OWN_CLASSES = False


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which artefacts, and in which store."""
    parser.add_argument(
        "prefix", help="beginning of a folder name in the store: stage or stage-key"
    )
    store_argument(parser)


def main(args: argparse.Namespace) -> int:
    """Move what matches; an error if nothing does."""
    from dtx.store.store import Store

    if not args.prefix:
        raise UserError(
            "name a stage or the beginning of a label: `dtx status` shows what is there"
        )
    moved = Store(args.store).invalidate(args.prefix)
    if not moved:
        raise UserError(
            f"nothing in {args.store} starts with {args.prefix!r}; `dtx status --store {args.store}` "
            "shows what is there"
        )
    for folder in moved:
        print(f"set aside: {near(folder)}")
    return 0
