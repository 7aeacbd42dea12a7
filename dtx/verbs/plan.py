"""Show what would run, why, and about how long it takes; run nothing."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from dtx.config.compose import compose, experiment
from dtx.progress import duration
from dtx.running.plan import PlannedStage, estimate, in_one_line, plan
from dtx.running.roles import titles
from dtx.running.room import require
from dtx.text import columns
from dtx.verbs._arguments import override_arguments

EXAMPLES = """
  dtx plan dataset.episodes=6000                 what would run again, and why
  dtx plan -m 'dt.seed=range(20)' dt=small       a sweep: each stage counted once
  dtx plan -m experiment=tune_small              a search: trials done and left
"""
OWN_CLASSES = True

HEADER = ("action", "stage", "artefact", "time", "why")
_SHOWN = 40  # lines of a sweep's plan before stages of a kind are counted only


def arguments(parser: argparse.ArgumentParser) -> None:
    """``dtx run``'s arguments, and how much to print."""
    override_arguments(parser)
    parser.add_argument("--all", action="store_true", help="a line for every stage of a big sweep")


def main(args: argparse.Namespace) -> int:
    """Print one line per stage, then a summary; 2 if jobs of a sweep have errors."""
    from dtx.store.store import Store

    if args.multirun:
        return _sweep(args)
    what = experiment(compose(args.overrides, args.config_dir), args.overrides)
    steps = plan(what.targets.values(), Store.of(what.store), what.on_drift)
    require([s.stage for s in steps if s.action == "run"], what.store.path, what.resources)
    _print(steps, titles(what.targets))
    print(f"\n{in_one_line(steps)}; {estimate(steps)}")
    return 0


def _sweep(args: argparse.Namespace) -> int:
    from dtx.sweep.read import read
    from dtx.sweep.search.outlook import outlook
    from dtx.sweep.search.search import Search
    from dtx.sweep.summary import titles_of_jobs

    sweep = read(args.overrides, args.config_dir)
    if isinstance(sweep, Search):
        print("\n".join(outlook(sweep)))
        return 0
    steps = sweep.plan()
    if len(steps) <= _SHOWN or args.all:
        _print(steps, titles_of_jobs(sweep))
        print()
    jobs = f"{len(sweep.jobs)} jobs over {', '.join(sweep.swept) or 'nothing'}"
    print(f"{jobs}: {in_one_line(steps)}; {estimate(steps)}")
    status = sweep.print_errors()
    if sweep.here:
        first = sweep.first
        require([s.stage for s in steps if s.action == "run"], first.store.path, first.resources)
    return status


def _print(steps: Sequence[PlannedStage], titles: Mapping[str, str]) -> None:
    """A line a stage: action, place and role, label, time and reason."""
    rows = [HEADER]
    for step in steps:
        time = "" if step.action != "run" or step.seconds is None else f"~{duration(step.seconds)}"
        rows.append((step.action, titles[step.stage.label], step.stage.label, time, step.why))
    print(columns(rows))
