"""Draw the figures of finished analyses again from their recorded results; compute nothing."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dtx.errors import UserError
from dtx.text import near, suggest
from dtx.verbs._arguments import OVERRIDES, override_arguments

if TYPE_CHECKING:
    from dtx.analysis.core.analysis import Analysis
    from dtx.stage import Stage
    from dtx.store.store import Store

EXAMPLES = """
  dtx redraw                                       all analyses of the default study
  dtx redraw lens neurons experiment=memory_dt_study   these two of a preset
  dtx redraw -m 'dt.seed=range(5)' store.path=/data/store   those of a sweep

Give the overrides that `dtx run` was given: they say which analyses are meant. Figures are drawn from
result.json, tables and arrays, and replaced in the store with their checksums. Copies in a remote store and
in MLflow stay as they are.
"""
OWN_CLASSES = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which analyses, and the experiment that they belong to."""
    override_arguments(parser, words=f"names of analyses (default: all); {OVERRIDES}")


def main(args: argparse.Namespace) -> int:
    """Print one line an analysis; 2 if there was nothing to draw or jobs of a sweep have errors."""
    from dtx.config.compose import compose, experiment
    from dtx.store.store import Store, used

    names = [w for w in args.overrides if "=" not in w and not w.startswith("~")]
    overrides = [w for w in args.overrides if w not in names]
    if args.multirun:
        from dtx.sweep.grid import read_sweep

        sweep = read_sweep(overrides, args.config_dir)
        experiments = [job.experiment for job in sweep.jobs if job.experiment]
        store, status = sweep.store(), sweep.print_errors()
    else:
        experiments = [experiment(compose(overrides, args.config_dir), overrides)]
        store, status = Store.of(experiments[0].store), 0
    targets = [target for what in experiments for target in what.targets.items()]
    with used(store):
        redraw(chosen(targets, names), store)
    return status


def chosen(targets: Iterable[tuple[str, Stage]], names: Sequence[str]) -> list[Analysis]:
    """The analyses among targets and their inputs, inputs first, each once.

    Args:
        targets: (name in the config, stage).
        names: Names in the config or of stages; empty: all.

    Raises:
        UserError: No analysis has one of the names, or there is none.
    """
    from dtx.analysis.core.analysis import Analysis
    from dtx.running.plan import stages

    targets = list(targets)
    analyses = [s for s in stages(stage for _, stage in targets) if isinstance(s, Analysis)]
    named: dict[str, set[str]] = {}
    for name, stage in (*targets, *((s.name, s) for s in analyses)):
        if isinstance(stage, Analysis):
            named.setdefault(name, set()).add(stage.label)
    for name in names:
        if name not in named:
            raise UserError(f"{name}: no analysis of that name here{suggest(name, sorted(named))}")
    if not analyses:
        raise UserError("no analysis is composed: choose some with analysis=[lens]")
    wanted = {label for name in names or named for label in named[name]}
    return [stage for stage in analyses if stage.label in wanted]


def redraw(analyses: Sequence[Analysis], store: Store) -> None:
    """Draw the figures of those that are in the store, one line each.

    Raises:
        UserError: None is there with a recorded result.
    """
    width = max(len(stage.label) for stage in analyses)
    done = 0
    for stage in analyses:
        if why := "; ".join(_obstacle(stage, store)):
            print(f"skipped  {stage.label:{width}}  {why}")
            continue
        files = store.replace_folder(stage, "figures", stage.redraw)
        print(f"redrawn  {stage.label:{width}}  {_in_words(store.folder(stage), files)}".rstrip())
        done += 1
    if not done:
        raise UserError("nothing was redrawn")


def _obstacle(stage: Analysis, store: Store) -> Iterator[str]:
    """Why the figures of an analysis cannot be drawn again here."""
    from dtx.report import RESULT

    place = store.where(stage)
    if place is None:
        yield "not in the store: `dtx run` with the same overrides computes it"
    elif place == "remote":
        yield "on the remote store only: `dtx run` with the same overrides fetches it"
    elif RESULT not in store.done(stage)["files"]:
        yield (
            f"no {RESULT}, for an earlier version of dtx made it: "
            f"`dtx invalidate {stage.label}`, then `dtx run` computes it again"
        )


def _in_words(folder: Path, files: Sequence[str]) -> str:
    if not files:
        return "draws no figures"
    count = "1 file" if len(files) == 1 else f"{len(files)} files"
    return f"{count} in {near(folder / 'figures')}"
