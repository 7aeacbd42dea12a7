"""Summaries of a sweep: printed, and as the description of its MLflow run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from dtx.progress import console
from dtx.running.names import Names
from dtx.running.plan import stages
from dtx.running.roles import roles
from dtx.sweep.grid import Job, Sweep
from dtx.text import near

if TYPE_CHECKING:
    from dtx.sweep.compare import Comparison

_ROWS, _NUMBERS = 24, 4  # of the table in a description; jobs.json has all


def parameters(sweep: Sweep) -> dict[str, str]:
    """Parameters for MLflow: the first job's values, with ``(swept)`` for swept fields."""
    swept = tuple(sweep.swept)
    below = tuple(f"{name}." for name in swept)
    values = Names(sweep.first).parameters
    fixed = {k: v for k, v in values.items() if k not in swept and not k.startswith(below or "\0")}
    return dict.fromkeys(swept, "(swept)") | fixed


def note(sweep: Sweep, comparison: Comparison, ran: int) -> str:
    """A description in Markdown: counts, the jobs with their metrics, warnings, failures."""
    jobs = f"{len(sweep.jobs)} jobs over {', '.join(sweep.swept) or 'nothing'}"
    parts = [f"{jobs}: {_counts(sweep)}. {ran} stages were executed, the others were in the store."]
    columns = [*sweep.swept, *comparison.metrics[:_NUMBERS]]
    if comparison.metrics and len(comparison.rows) <= _ROWS:
        table = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        for row in comparison.rows:
            table.append(f"| {' | '.join(_cell(row.get(c)) for c in columns)} |")
        parts.append("\n".join(table))
    parts += [f"- {line}" for line in comparison.warnings]
    parts += [f"- failed: {j.name}: {j.error.splitlines()[0]}" for j in sweep.jobs if j.error]
    return "\n\n".join(parts)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _counts(sweep: Sweep) -> str:
    counts = Counter(job.status for job in sweep.jobs)
    words = {"cached": "reused"}
    return ", ".join(f"{n} {words.get(status, status)}" for status, n in counts.items())


def print_summary(sweep: Sweep, ran: int, seconds: float) -> None:
    """Print the comparison of the jobs, one line with the counts, a table of failures, the next step."""
    if sweep.swept:
        _print_comparison(sweep)
    console.print(f"{len(sweep.jobs)} jobs: {_counts(sweep)}; {ran} stages ran in {seconds:.1f} s")
    bad = [job for job in sweep.jobs if job.status in ("failed", "skipped")]
    if bad:
        _print_failures(bad)
    console.print(
        "next: `dtx compare` draws these numbers, `dtx compare --list` names all others",
        soft_wrap=True,
    )


def _print_comparison(sweep: Sweep) -> None:
    from dtx.sweep.compare import collect
    from dtx.sweep.tables import tables

    comparison = collect(sweep, sweep.store())
    if comparison.metrics:
        for table in tables(comparison):
            console.print(table)
            console.print()
    for line in comparison.warnings:
        console.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)


def titles_of_jobs(sweep: Sweep) -> dict[str, str]:
    """Place and role of each stage of a sweep, by label: ``4 of 9 dt (dt.seed=1)``.

    A role with the swept values that all jobs with the stage have in common, if others have other ones.
    """
    jobs_of = sweep.stages_of_jobs()
    names = {}
    for job in sweep.jobs:
        if job.experiment:
            for label, role in roles(job.experiment.targets).items():
                names.setdefault(label, role)
    titles = {}
    for number, label in enumerate((s.label for s in stages(sweep.targets())), 1):
        first, *others = jobs_of[label]
        common = {k: v for k, v in first.swept.items() if all(j.swept[k] == v for j in others)}
        only = {k: v for k, v in common.items() if len({j.swept[k] for j in sweep.jobs}) > 1}
        of = f" ({', '.join(f'{k}={v}' for k, v in only.items())})" if only else ""
        titles[label] = f"{number} of {len(jobs_of)} {names[label]}{of}"
    return titles


def _print_failures(bad: Sequence[Job]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    for column in ("job", "status", "error", "log"):
        table.add_column(column, overflow="fold")
    for job in bad:
        line = next(iter(job.error.splitlines()), "")
        log = str(near(Path(job.log))) if job.log else ""
        table.add_row(escape(job.name), job.status, escape(line), log)
    console.print(table)
