"""Show what is in the store: in progress, interrupted, finished; and what MLflow lacks of it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dtx.text import bytes_in_words, columns
from dtx.verbs._arguments import store_argument, tracking_argument

if TYPE_CHECKING:
    from dtx.store.inventory import Artefact

EXAMPLES = """
  dtx status                       what is in progress, interrupted and finished
  dtx status --store /data/store --all
"""
OWN_CLASSES = False
HEADER = ("stage", "artefact", "age", "took", "size", "result")
_SHOWN = 15


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which store, and how much of it."""
    store_argument(parser)
    tracking_argument(parser)
    parser.add_argument(
        "--all", action="store_true", help="every finished stage, not only the newest"
    )


def main(args: argparse.Namespace) -> int:
    """Print the lists."""
    from dtx.progress import duration
    from dtx.running.roles import recorded_roles
    from dtx.store import locks
    from dtx.store.aside import LOCKS
    from dtx.store.inventory import artefacts, existing, unfinished

    root = existing(args.store)
    working, waiting = [], []
    for folder in unfinished(root):
        held, words = _work(root, folder)
        (working if held else waiting).append((f"  {folder.name}", words))
    names = {folder.name.removesuffix(".pull") for folder in unfinished(root)}
    for note in sorted(
        (root / LOCKS).glob("*.holder")
    ):  # locked without a work folder: a push, a commit
        if note.stem not in names and (who := locks.holder(root / LOCKS, note.stem)) is not None:
            working.append((f"  {note.stem}", locks.in_words(who)))
    if working:
        print(f"in progress:\n{columns(working)}\n")
    if waiting:
        print(f"interrupted (the same command resumes them):\n{columns(waiting)}\n")
    finished = artefacts(root)
    shown = finished if args.all else finished[:_SHOWN]
    if shown:
        roles = recorded_roles((a.label, a.record) for a in finished)
        rows = [(f"  {HEADER[0]}", *HEADER[1:])]
        rows += [_finished(a, roles[a.label]) for a in shown]
        print(f"finished, newest first:\n{columns(rows)}")
    if len(shown) < len(finished):
        print(f"  ... and {len(finished) - len(shown)} more (--all)")
    seconds = sum(a.record.get("seconds", 0.0) for a in finished)
    print(
        f"{len(finished)} finished ({bytes_in_words(sum(a.size for a in finished))}, "
        f"{duration(seconds)} of work), {len(working)} in progress, {len(waiting)} interrupted"
    )
    _print_what_mlflow_lacks(root, finished, args)
    return 0


def _print_what_mlflow_lacks(
    root: Path, finished: list[Artefact], args: argparse.Namespace
) -> None:
    from dtx.store.store import Store, used
    from dtx.text import discreet
    from dtx.tracking import database_of, lacking, only_told, tracking_uri

    with only_told(), used(Store(root)):
        uri = tracking_uri(args.uri)
        database = database_of(uri)
        tracked = any(a.record.get("mlflow") for a in finished)
        if not tracked and database is not None and not database.exists():
            return  # MLflow is not used here
        gap = lacking(uri, finished)
        rows = [(f"  {a.label}", "no run there") for a in gap.missing]
        rows += [(f"  {a.label}", "its run there is not complete") for a in gap.incomplete]
        rows = rows if args.all else rows[:_SHOWN]
        if rows:
            print(f"not in MLflow at {discreet(uri)} (`dtx track` mirrors them):\n{columns(rows)}")
        if len(rows) < len(gap.artefacts):
            print(f"  ... and {len(gap.artefacts) - len(rows)} more (--all)")
        if gap.deleted:
            print(f"{len(gap.deleted)} runs of finished stages were deleted in MLflow and stay so")


def _work(root: Path, folder: Path) -> tuple[bool, str]:
    """Whether a process works on it, and in words how far it has come."""
    from dtx.progress import duration, in_words, read_progress
    from dtx.store import locks
    from dtx.store.aside import LOCKS
    from dtx.store.inventory import last_touched

    label = folder.name.removesuffix(".pull")
    who, now = locks.holder(root / LOCKS, label), time.time()
    progress = read_progress(folder)
    if folder.name != label:
        words = "being pulled from the remote store"
    elif progress is None:
        words = "no progress reported yet"
    else:
        rate = progress["rate"] if who is not None else 0.0
        words = in_words(
            progress["done"], progress["total"], progress["unit"], rate, progress["note"]
        )
        words = f"{progress['title']}: {words}" if progress["title"] else words
    if who is None:
        return False, f"{words}; {duration(now - last_touched(folder))} ago"
    if progress and now - progress["time"] > 60:
        words += f"; that was {duration(now - progress['time'])} ago"
    return True, f"{words}; {locks.in_words(who)}"


def _finished(artefact: Artefact, role: str) -> tuple[str, ...]:
    from dtx.progress import duration

    size = bytes_in_words(artefact.size)
    age = duration(max(0.0, time.time() - artefact.finished))
    if not artefact.record:
        wrong = f"done.json is not readable: `dtx invalidate {artefact.label}` sets it aside"
        return f"  {role}", artefact.label, age, "", size, wrong
    took = duration(artefact.record.get("seconds", 0.0))
    return f"  {role}", artefact.label, age, took, size, _summary(artefact)


def _summary(artefact: Artefact) -> str:
    """An analysis' finding or why it is not established; of another stage its summary or first numbers."""
    from dtx.analysis.core.result import Result
    from dtx.report import RESULT, read_metrics

    folder = artefact.folder
    try:
        if (folder / RESULT).is_file():
            return Result.read(folder).summary
        if summary := artefact.record.get("summary"):
            return summary
        numbers = [(k, v) for k, v in read_metrics(folder).items() if v is not None]
    except (OSError, ValueError, KeyError, TypeError):
        return "its numbers are not readable"
    return ", ".join(f"{k.split('/')[-1].replace('_', ' ')} {v:.3g}" for k, v in numbers[:4])
