"""List, and with --delete remove, what no preset and no named run uses."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dtx.errors import UserError
from dtx.text import bytes_in_words, columns
from dtx.verbs._arguments import config_dir_argument, store_argument

if TYPE_CHECKING:
    from dtx.store.garbage import Item

EXAMPLES = """
  dtx gc                           what would be deleted and what stays, with reasons
  dtx gc --delete --keep ppo-3f0c  delete, but keep this artefact and all that it was made from
  dtx gc --forget lr_sweep         no longer keep what the run of this name uses

Only this folder is cleaned; a remote store (store.remote) keeps all it has.
"""
OWN_CLASSES = False


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which store, and what counts as needed."""
    store_argument(parser)
    parser.add_argument("--delete", action="store_true", help="delete; without this, only list")
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
        help="nothing that is newer goes; 0: whatever nothing needs (default: 7)",
    )
    config_dir_argument(parser, "your own configs, whose presets keep what they reach, too")
    parser.add_argument("--forget", metavar="RUN", help="forget a named run")


def main(args: argparse.Namespace) -> int:
    """List what would go and what stays; delete with ``--delete``."""
    from dtx.store.garbage import collect, reached_by_presets, survey
    from dtx.store.inventory import existing

    root = existing(args.store)
    if args.forget is not None:
        return _forget(root, args.forget)
    items = survey(root, reached_by_presets(args.config_dir), args.keep, args.older)
    _show("stays", items.stays)
    if not args.delete:
        _show("would go", items.goes)
        locks = f", {items.idle} idle lock files" if items.idle else ""
        print(f"stays: {_totals(items.stays)}")
        print(f"would go: {_totals(items.goes)}{locks}")
        if items.goes or items.idle:
            print("nothing was deleted: give --delete to do it")
        return 0
    gone, spared = collect(root, items.goes, args.older)
    _show("gone", gone)
    _show("spared, because a process has begun to need it", spared)
    print(f"stays: {_totals([*items.stays, *spared])}")
    print(f"gone: {_totals(gone)}")
    return 0


def _forget(root: Path, name: str) -> int:
    from dtx.store.inventory import named_runs
    from dtx.text import suggest

    runs = {run.name: run for run in named_runs(root)}
    if name not in runs:
        raise UserError(f"--forget {name}: no run of that name{suggest(name, list(runs))}")
    runs[name].path.unlink(missing_ok=True)
    print(f"forgot run {name} ({len(runs[name].labels)} stages); `dtx gc` shows what that frees")
    return 0


def _show(title: str, items: Sequence[Item]) -> None:
    if not items:
        return
    print(f"{title}:")
    print(columns([(f"  {i.path.name}", bytes_in_words(i.size), i.why) for i in items]) + "\n")


def _totals(items: Sequence[Item]) -> str:
    """``12 artefacts, 3 unfinished, 1.2 GB``."""
    plural = {"artefact": "artefacts", "set aside": "set aside earlier"}
    counts = Counter(i.kind for i in items)
    parts = [
        f"{n} {plural.get(kind, kind) if n > 1 or kind != 'artefact' else kind}"
        for kind, n in counts.items()
    ]
    return ", ".join([*parts, bytes_in_words(sum(i.size for i in items))]) if items else "nothing"
