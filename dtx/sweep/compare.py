"""What a sweep found: each number against each swept field, with bands over seeds.

A swept field whose name ends in ``seed`` is a repetition, any other is a question. For each pair of a number
and a question there is one figure: the mean over seeds with a 95% bootstrap interval and every single job as
a dot; a further question, if there is one, is told apart by colour, and the rest is averaged over.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from dtx.errors import UserError
from dtx.report import Report, read_metrics
from dtx.run.plan import stages
from dtx.store.store import Store
from dtx.sweep.grid import Job, Sweep

if TYPE_CHECKING:
    import pandas as pd

_FIGURES = 12  # drawn unasked


@dataclass
class Comparison:
    """The jobs as rows, and the figures drawn.

    Attributes:
        rows: One a job: swept fields, status, numbers.
        metrics: Names of the numbers drawn.
        left_out: Names of numbers that differ between jobs and were not drawn.
        paths: The figures.
    """

    rows: list[dict[str, Any]]
    metrics: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)


def compare(
    sweep: Sweep, store: Store, out: Path, metrics: Sequence[str] = (), by: Sequence[str] = ()
) -> Comparison:
    """Collect a sweep's numbers and draw them.

    Args:
        sweep: Its jobs may be unfinished: what is there is drawn.
        store: Where the artefacts are.
        out: Folder of the figures (PNG).
        metrics: Names or patterns (``calibration/*``); empty: those that differ between jobs, first
            those that the swept fields explain best.
        by: Swept fields to draw against; empty: all that are no seeds, or the seeds if there is nothing else.

    Raises:
        UserError: A metric or field that the sweep does not have.
    """
    import pandas as pd

    rows = [_row(job, store) for job in sweep.jobs]
    found = Comparison(rows)
    frame = pd.DataFrame(rows)
    numbers = [c for c in frame.columns if "/" in c]
    questions = _questions(sweep, by)
    found.metrics, found.left_out = _chosen(frame, numbers, metrics, questions)
    report = Report(out)
    for metric in found.metrics:
        for question in questions:
            name = f"{metric.replace('/', '_')}_by_{question}"
            figure = _draw(frame, metric, question, sweep.swept)
            out.mkdir(parents=True, exist_ok=True)
            report.figure(name, figure)
            found.paths.append(out / "figures" / f"{name}.png")
    return found


def _row(job: Job, store: Store) -> dict[str, Any]:
    """Swept fields as values, then the headline numbers; what is analysed comes before its controls."""
    numbers: dict[str, float] = {}
    there = [s for s in stages(job.targets()) if store.where(s) == "local"]
    for stage in there:
        found = read_metrics(store.folder(stage)).items()
        numbers = {k: v for k, v in found if v is not None} | numbers
    swept = {k: _value(v) for k, v in job.swept.items()}
    return {"job": job.number, **swept, "status": job.status or "?", **numbers}


def _value(text: str) -> float | int | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text.strip("'\"")


def is_seed(name: str) -> bool:
    """Whether a swept field repeats the same question."""
    return name.rsplit(".", 1)[-1] == "seed"


def _questions(sweep: Sweep, by: Sequence[str]) -> list[str]:
    wrong = [name for name in by if name not in sweep.swept]
    if wrong:
        raise UserError(f"{wrong[0]} was not swept; swept: {', '.join(sweep.swept) or 'nothing'}")
    return list(by) or [s for s in sweep.swept if not is_seed(s)] or list(sweep.swept[:1])


def _chosen(
    frame: pd.DataFrame, numbers: list[str], metrics: Sequence[str], questions: list[str]
) -> tuple[list[str], list[str]]:
    if not metrics:
        differ = [c for c in numbers if len(set(frame[c].dropna())) > 1]
        differ.sort(key=lambda c: -_explained(frame, c, questions))
        most = max(1, _FIGURES // max(len(questions), 1))
        return differ[:most], differ[most:]
    chosen: dict[str, None] = {}
    for pattern in metrics:
        some = fnmatch.filter(numbers, pattern)
        if not some:
            there = ", ".join(numbers) or "no finished job has any"
            raise UserError(f"no number is named {pattern!r}; there are: {there}")
        chosen.update(dict.fromkeys(some))
    return list(chosen), []


def _explained(frame: pd.DataFrame, metric: str, questions: list[str]) -> float:
    """Share of a number's variance that lies between the values of the questions, not between seeds."""
    known = frame.dropna(subset=[metric])
    means = known.groupby(questions, sort=False)[metric].transform("mean")
    return round(float(means.var(ddof=0) / known[metric].var(ddof=0)), 6)


@dataclass
class _Line:
    """One colour of a figure: mean and interval at each place, and the single jobs."""

    label: str | None
    places: list[float]
    means: list[float]
    lows: list[float]
    highs: list[float]
    dots: list[tuple[float, float]]


def _draw(frame: pd.DataFrame, metric: str, question: str, swept: Sequence[str]) -> Any:
    from dtx.figures import new

    figure, axes = new(width=4.6, height=3.2, mosaic=[["main"]])
    axis = axes["main"]
    values = list(dict.fromkeys(frame[question]))
    numeric = all(isinstance(v, (int, float)) for v in values)
    if numeric:
        values.sort()
    place = {v: float(v) if numeric else float(i) for i, v in enumerate(values)}
    others = [s for s in swept if s != question and not is_seed(s)]
    lines = _lines(frame, metric, question, others, place)
    for i, line in enumerate(lines):
        colour = f"C{i}"
        axis.plot(*zip(*line.dots, strict=True), "o", ms=3, alpha=0.35, color=colour)
        style = "-" if numeric else ""
        axis.plot(
            line.places, line.means, ls=style, color=colour, marker="_", ms=14, label=line.label
        )
        if numeric and len(line.places) > 1:
            axis.fill_between(line.places, line.lows, line.highs, color=colour, alpha=0.15, lw=0)
        else:
            axis.vlines(line.places, line.lows, line.highs, color=colour, lw=1.5)
    if not numeric:
        axis.set_xticks(list(place.values()), [str(v) for v in values])
        axis.set_xlim(-0.5, len(values) - 0.5)
    elif len(values) <= 8:
        axis.set_xticks(list(place.values()), [f"{v:g}" for v in values])
    axis.set_xlabel(question)
    axis.set_ylabel(metric)
    if others:
        axis.legend(title=others[0], title_fontsize=8)
    axis.set_title(_over(frame, metric, question, swept, others), fontsize=8)
    return figure


def _lines(
    frame: pd.DataFrame, metric: str, question: str, others: list[str], place: dict[Any, float]
) -> list[_Line]:
    from dtx.statistics import bootstrap

    groups = list(frame.groupby(others[0], sort=False)) if others else [(None, frame)]
    span = (max(place.values()) - min(place.values())) or 1.0
    lines = []
    for i, (name, some) in enumerate(groups):
        shift = (i - (len(groups) - 1) / 2) * 0.02 * span  # so that lines do not hide each other
        line = _Line(None if name is None else str(name), [], [], [], [], [])
        for value, x in place.items():
            points = some.loc[some[question] == value, metric].dropna().to_numpy(float)
            if not len(points):
                continue
            low, high = bootstrap(points, 2000, 0)
            line.places.append(x + shift)
            line.means.append(float(points.mean()))
            line.lows.append(low)
            line.highs.append(high)
            line.dots += [(x + shift, float(p)) for p in points]
        if line.places:
            lines.append(line)
    return lines


def _over(
    frame: pd.DataFrame, metric: str, question: str, swept: Sequence[str], others: list[str]
) -> str:
    """What the interval is over, and how many jobs each mean stands on."""
    over = [*(s for s in swept if is_seed(s) and s != question), *others[1:]]
    if not over:
        return "single jobs"
    counts = frame.groupby([question, *others[:1]])[metric].count().to_list()
    n = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)}-{max(counts)}"
    return f"mean and 95% interval over {', '.join(over)} (n = {n})"


def in_words(sweep: Sweep, found: Comparison) -> list[Table]:
    """A table for each question: mean, interval and number of jobs for each of its values."""
    import pandas as pd

    from dtx.statistics import bootstrap

    frame = pd.DataFrame(found.rows)
    tables = []
    for question in dict.fromkeys(p.stem.rpartition("_by_")[2] for p in found.paths):
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column(question)
        table.add_column("jobs", justify="right")
        for metric in found.metrics:
            table.add_column(metric.rpartition("/")[2].replace("_", " "), overflow="fold")
        for value, group in frame.groupby(question, sort=False):
            cells = []
            for metric in found.metrics:
                points = group[metric].dropna().to_numpy(float)
                low, high = bootstrap(points, 2000, 0)
                cells.append(f"{points.mean():.3g} [{low:.3g}, {high:.3g}]" if len(points) else "-")
            table.add_row(str(value), str(len(group)), *cells)
        tables.append(table)
    return tables
