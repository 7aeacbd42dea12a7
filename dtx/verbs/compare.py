"""Compare the jobs of a sweep: metrics against swept fields, with intervals over seeds."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.markup import escape

from dtx.errors import UserError
from dtx.files import read_json, taken_from
from dtx.progress import console
from dtx.text import near
from dtx.verbs._arguments import as_path, override_arguments

EXAMPLES = """
  dtx compare                                              the last sweep of this folder
  dtx compare -m dt.model.n_layers=1,2,3 'dt.seed=range(5)'  a sweep by its overrides
  dtx compare --metric spearman --metric 'calibration/return_*' --by dt.model.n_layers
  dtx compare --list                                       all metrics of the last sweep
"""
OWN_CLASSES = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which sweep, and which of its numbers."""
    override_arguments(parser)
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        help="name or pattern of metrics to show (may be given several times); without: the headline "
        "metrics that the analyses declare",
    )
    parser.add_argument("--list", action="store_true", help="print the names of all metrics")
    parser.add_argument(
        "--by", action="append", default=[], help="swept field on the horizontal axis"
    )
    parser.add_argument(
        "--out", type=as_path, default=Path("multirun/compare"), help="default: multirun/compare"
    )


def main(args: argparse.Namespace) -> int:
    """Draw, print the table and log the figures to the sweep's run."""
    from dtx.store.store import use
    from dtx.sweep.read import read

    overrides, config_dir = args.overrides, args.config_dir
    if not overrides:
        overrides, config_dir = _last()
    sweep = read(overrides, config_dir)
    if not sweep.swept:
        raise UserError("nothing is swept: give the sweep's overrides, as dt.seed=0,1,2")
    store = use(sweep.store())

    from dtx.sweep.compare import collect, compare
    from dtx.sweep.tables import listing, tables

    if args.list:
        comparison = collect(sweep, store, args.metric, args.by)
        print(listing(comparison))
        return 0
    comparison = compare(sweep, store, args.out, args.metric, args.by)
    if not comparison.metrics:
        raise UserError(f"nothing to compare: none of the {len(sweep.jobs)} jobs has been run yet")
    for table in tables(comparison):
        console.print(table)
        console.print()
    for line in comparison.warnings:
        console.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)
    for path in comparison.paths:
        console.print(f"figure: {near(path)}", soft_wrap=True)
    more = len(comparison.every) - len(comparison.metrics)
    if more:
        console.print(f"{more} more metrics: `dtx compare --list`, then --metric NAME")
    if sweep.first.tracking.enabled:
        from dtx.tracking import log_to_sweep

        run = log_to_sweep(sweep.first.tracking, sweep.identity, comparison.paths)
        message = f"logged to MLflow run {run}" if run else "MLflow has no run of this sweep"
        console.print(message, soft_wrap=True)
    return 0


def _last() -> tuple[list[str], Path | None]:
    """Overrides of the newest sweep under ./multirun."""
    sweeps = sorted(Path("multirun").glob("**/sweep.json"), key=lambda p: p.stat().st_mtime)
    if not sweeps:
        raise UserError(
            "no sweep under ./multirun: give its overrides, as in `dtx compare dt.seed=0,1,2`"
        )
    record = read_json(sweeps[-1])
    console.print(f"[dim]the sweep of {near(sweeps[-1].parent)}[/]")
    with taken_from(sweeps[-1]):
        overrides, config_dir = record["overrides"], record["config_dir"]
        if not all(isinstance(word, str) for word in (*overrides, config_dir or "")):
            raise ValueError("overrides are texts")
        return list(overrides), Path(config_dir) if config_dir else None
