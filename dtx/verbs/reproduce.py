"""Run a preset and compare its numbers with those expected."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dtx.errors import UserError
from dtx.verbs._arguments import as_path, override_arguments

if TYPE_CHECKING:
    from dtx.config.expected import ReachedNumber

EXAMPLES = """
  dtx reproduce memory_dt
  dtx reproduce memory_dt store.path=/data/store
  dtx reproduce mine --config-dir ~/mine --expected ~/mine/expected.json
"""
OWN_CLASSES = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which preset, and against what."""
    parser.add_argument("preset", metavar="PRESET", help="as `dtx ls experiment` shows them")
    parser.add_argument(
        "--expected", type=as_path, help="default: experiments/PRESET/expected.json of the clone"
    )
    override_arguments(parser, sweeps=False)


def main(args: argparse.Namespace) -> int:
    """Print a table of number, measured, tolerance; exit status 1 if one is outside its tolerance."""
    from dtx.config.compose import compose, experiment
    from dtx.config.expected import judge, measure, read, stages_of
    from dtx.progress import console
    from dtx.running.runner import run

    if taken := [o for o in args.overrides if o.lstrip("+").split("=")[0] == "seed"]:
        raise UserError(
            f"{taken[0]}: the expected numbers name their seeds; `dtx run` takes others"
        )
    expected = read(_expected(args))
    everything = []
    for seed in expected.seeds:  # all first: a mistake shows before hours of work
        overrides = [f"experiment={args.preset}", f"seed={seed}", *args.overrides]
        what = experiment(compose(overrides, args.config_dir), overrides)
        # Metrics of an input need the input's files, which a finished target does not.
        targets = {**what.targets, **stages_of(expected, what.targets)}
        everything.append(dataclasses.replace(what, targets=targets))
    by_seed = []
    for seed, what in zip(expected.seeds, everything, strict=True):
        outcomes = run(what)
        ran = sum(o.status == "ran" for o in outcomes)
        console.print(f"seed {seed}: {ran} of {len(outcomes)} stages ran, the rest reused")
        by_seed.append(measure(expected, what.targets))
    return report(judge(expected, by_seed), expected.seeds)


def _expected(args: argparse.Namespace) -> Path:
    """The file of expected numbers, for a preset that exists."""
    from dtx.config.expected import path_of
    from dtx.config.options import find

    find(f"experiment/{args.preset}", args.config_dir)
    if args.expected:
        return args.expected
    path = path_of(args.preset)
    if not path.exists():
        raise UserError(
            f"no expected numbers for {args.preset}: experiments/{args.preset}/expected.json does not "
            "exist (only a clone of dtx has them); name a file with --expected"
        )
    return path


def report(verdicts: Sequence[ReachedNumber], seeds: Sequence[int]) -> int:
    """Print the table and the numbers that left their tolerance; the exit status."""
    from dtx.text import columns

    over = f"seed {seeds[0]}" if len(seeds) == 1 else f"mean of {len(seeds)} seeds"
    rows = [("number", over, "tolerance", "ok", "by seed")]
    for verdict in verdicts:
        tolerance = f"{verdict.number.low:g} to {verdict.number.high:g}"
        values = " ".join(_shown(v) for v in verdict.values)
        ok = "yes" if verdict.ok else "NO"
        rows.append((verdict.number.name, _shown(verdict.mean), tolerance, ok, values))
    print(columns(rows))
    wrong = [v for v in verdicts if not v.ok]
    for verdict in wrong:
        number = verdict.number
        print(
            f"outside its tolerance: {number.name} of {number.of} is {_shown(verdict.mean)}, "
            f"expected {number.low:g} to {number.high:g}"
        )
    if not wrong:
        print(f"all numbers are within their tolerance ({len(verdicts)})")
    return 1 if wrong else 0


def _shown(value: float | None) -> str:
    return "missing" if value is None else f"{value:.3f}"
