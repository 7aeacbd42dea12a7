"""Show what would run, why, and about how long it takes; run nothing."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from dtx.config.compose import compose, experiment
from dtx.running.plan import PlannedStage, estimate, in_one_line, plan
from dtx.running.room import require
from dtx.verbs._arguments import override_arguments

EXAMPLES = """
  dtx plan dataset.episodes=6000                 what would run again, and why
  dtx plan -m 'dt.seed=range(20)' dt=small       a sweep: each stage counted once
"""
OWN_CLASSES = True

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
    _print(steps)
    print(f"\n{in_one_line(steps)}; {estimate(steps)}")
    return 0


def _sweep(args: argparse.Namespace) -> int:
    from dtx.sweep.grid import read_sweep

    sweep = read_sweep(args.overrides, args.config_dir)
    steps = sweep.plan()
    if len(steps) <= _SHOWN or args.all:
        _print(steps)
        print()
    jobs = f"{len(sweep.jobs)} jobs over {', '.join(sweep.swept) or 'nothing'}"
    print(f"{jobs}: {in_one_line(steps)}; {estimate(steps)}")
    status = sweep.print_errors()
    if sweep.here:
        first = sweep.first
        require([s.stage for s in steps if s.action == "run"], first.store.path, first.resources)
    return status


def _print(steps: Sequence[PlannedStage]) -> None:
    width = max((len(s.stage.label) for s in steps), default=0)
    for step in steps:
        print(f"{step.action:10} {step.stage.label:{width}}  {step.why}".rstrip())
