"""Run the stages that are missing."""

from __future__ import annotations

import argparse
import functools
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from dtx import __version__
from dtx.config.compose import CONF, Experiment, compose, experiment
from dtx.config.hydra_settings import in_words
from dtx.errors import UserError
from dtx.progress import console, copied, duration
from dtx.running.outcome import StageOutcome
from dtx.running.processes import seconds_alive
from dtx.running.roles import titles
from dtx.text import near
from dtx.verbs._arguments import override_arguments

if TYPE_CHECKING:
    from dtx.running.output import Output

EXAMPLES = """
  dtx run                                        the default study
  dtx run experiment=quickstart seed=3           a preset with another seed
  dtx run agent.lr=5e-4 dt=small                 any field of any stage
  dtx run target=dataset                         only as far as the demonstrations
  dtx run -m dt.seed=0,1,2                       a sweep: agent and dataset are shared
  dtx run -m dt=small,memory_dt 'dt.seed=range(5)' hydra/launcher=joblib
  dtx run -m experiment=tune_small               a search for the best values, by Optuna
  dtx run --cfg job                              show the composed config (Hydra's flags work)
"""
OWN_CLASSES = True
HEADER = ("stage", "artefact", "status", "result")
"""Of the table of stages at the end."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Overrides, and Hydra's own flags."""
    override_arguments(parser)
    hydra = parser.add_argument_group("Hydra's flags")
    hydra.add_argument("-c", "--cfg", choices=("job", "hydra", "all"), help="show the config")
    hydra.add_argument("-p", "--package", help="show this part of it")
    hydra.add_argument("--resolve", action="store_true", help="show it with references resolved")
    kinds = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
    hydra.add_argument(
        "-i", "--info", nargs="?", const="all", choices=kinds, help="show how it is composed"
    )
    hydra.add_argument("--hydra-help", action="store_true", help="Hydra's settings that dtx reads")
    hydra.add_argument(
        "-r", "--run", action="store_true", help="no sweep; so it is without -m, too"
    )
    hydra.add_argument("--version", action="store_true", help="of dtx and Hydra")


def main(args: argparse.Namespace) -> int:
    """Run an experiment or a sweep, or show what Hydra composes."""
    if args.hydra_help or args.version:
        return _about(args)
    if (args.package or args.resolve) and not args.cfg:
        raise UserError("--package and --resolve show a part of the config: add --cfg job")
    if args.cfg or args.info:
        return _hydra(args)
    if args.multirun:
        if args.run:
            raise UserError("--run is a single run, -m a sweep: leave one of them out")
        from dtx.sweep.read import read, run_jobs

        return run_jobs(read(args.overrides, args.config_dir))
    config = compose(args.overrides, args.config_dir, with_hydra=True)
    from dtx.running.output import Output

    return run_and_print(experiment(config, args.overrides), Output.of_run(config))


def run_and_print(what: Experiment, output: Output | None = None) -> int:
    """Run an experiment and print a table of the outcomes; returns the exit status.

    Args:
        what: The experiment.
        output: Where to leave log and config if a stage is run.
    """
    with copied() as log:
        begins = functools.partial(output.write, log) if output else lambda: None
        status = _run_and_print(what, begins)
        if log.path is not None:
            console.print(f"log: {near(log.path)}", soft_wrap=True)
        elif output and output.named:
            console.print(f"nothing ran: nothing is written to {near(output.folder)}")
        return status


def _run_and_print(what: Experiment, begins: Callable[[], None]) -> int:
    from dtx.running.runner import StagesFailed, run
    from dtx.text import say

    start = time.monotonic()
    try:
        outcomes = run(what, begins=begins)
    except StagesFailed as failed:
        if len(failed.outcomes) > 1:
            print_outcomes(failed.outcomes, titles(what.targets))
        for line in str(failed).splitlines():
            say(f"error: {line}")
        return 1 if failed.defect else 2
    print_outcomes(outcomes, titles(what.targets))
    ran = sum(o.status == "ran" for o in outcomes)
    summary = (
        f"{ran} of {len(outcomes)} stages ran"
        if ran
        else f"everything reused ({len(outcomes)} stages)"
    )
    console.print(
        f"\n{summary} in {time.monotonic() - start:.1f} s ({seconds_alive():.1f} s with start-up)"
    )
    for target in what.targets.values():
        folder = target.path / "figures"
        pictures = sorted(folder.glob("*.png"))
        for figure in pictures:
            console.print(f"figure: {near(figure)}", soft_wrap=True)
        for page in (
            [] if pictures else sorted(folder.glob("*.html"))
        ):  # a page is all that it draws
            console.print(f"page: {near(page)}", soft_wrap=True)
    if note := what.raw.get("note"):
        console.print(f"note: {escape(str(note))}", soft_wrap=True)
    for line in _next_steps(what):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    return 0


def _next_steps(what: Experiment) -> list[str]:
    """Where the results are, and what to do with them."""
    from dtx.dt.model_stage import ModelStage
    from dtx.running.names import Names
    from dtx.running.plan import stages
    from dtx.tracking import Job
    from dtx.tracking.links import review

    place = near(what.store.path)
    lines = [f"results: {place if place.is_absolute() else f'./{place}'}"]
    if what.tracking.enabled:
        lines.append(review(what.tracking, lambda: Job(Names(what)).command))
    if any(isinstance(stage, ModelStage) for stage in stages(what.targets.values())):
        lines.append(
            "play: `dtx app` opens the model in the explorer; analysis=[explorer] writes it as one HTML file"
        )
    own = ("seed=", "hydra.")  # a sweep has folders of its own
    given = shlex.join(o for o in what.overrides if not o.lstrip("+").startswith(own))
    again = " ".join(filter(None, ("dtx run -m", given, "seed=0,1,2")))
    lines.append(f"next: `{again}` repeats it with other seeds and compares them")
    return lines


def print_outcomes(outcomes: Sequence[StageOutcome], titles: Mapping[str, str]) -> None:
    """Print the table of stages.

    Args:
        outcomes: Of every stage, inputs first.
        titles: Place and role of each stage, by label.
    """
    table = Table(title=None, box=None, pad_edge=False, header_style="bold")
    for column in HEADER[:-1]:
        table.add_column(column, no_wrap=True)
    table.add_column(HEADER[-1], overflow="fold")
    done = {"ran", "reused", "pulled"}
    for outcome in outcomes:
        stage = outcome.stage
        status = f"ran {duration(outcome.seconds)}" if outcome.status == "ran" else outcome.status
        text = stage.summary() if outcome.status in done else outcome.error
        table.add_row(titles[stage.label], f"{stage.name}-{stage.key[:8]}", status, escape(text))
    console.print(table)


def _about(args: argparse.Namespace) -> int:
    """Versions, or what dtx does with Hydra's flags and settings."""
    from hydra import __version__ as of_hydra

    print(f"dtx {__version__}, Hydra {of_hydra}")
    if args.hydra_help:
        print("\ndtx run --help shows the flags, dtx run --cfg hydra all of Hydra's settings.\n")
        print("\n".join(in_words()))
    return 0


def _hydra(args: argparse.Namespace) -> int:
    """Hydra's own flags, through Hydra's main."""
    import sys

    import hydra

    if args.multirun:
        raise UserError(
            "Hydra shows the config of one job: leave out -m, and give one value a field"
        )
    compose(args.overrides, args.config_dir)  # refuses what Hydra's main would pass over
    flags = [f"--cfg={args.cfg}"] * bool(args.cfg) + [f"--info={args.info}"] * bool(args.info)
    flags += [f"--package={args.package}"] * bool(args.package)
    flags += ["--resolve"] * args.resolve
    flags += [f"--config-dir={args.config_dir}"] * bool(args.config_dir)
    sys.argv = ["dtx run", *flags, *args.overrides]
    hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(lambda _: None)()
    return 0
