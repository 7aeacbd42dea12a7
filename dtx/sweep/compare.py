"""Compare the jobs of a sweep: each metric against each swept field, with intervals over seeds.

A swept field whose name ends in ``seed`` is a repetition, any other is a question. There is one figure for
each metric and question: the mean over seeds with a 95% interval (t below 30 seeds), and a dot for each job.
A second question is shown by colour; further ones are averaged over.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from dtx.analysis.core.result import Result
from dtx.beside import building, put
from dtx.errors import UserError
from dtx.report import RESULT, Report, read_metrics
from dtx.running.plan import stages
from dtx.stage import Stage
from dtx.store.store import Store
from dtx.sweep.grid import Job, Sweep
from dtx.text import file_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from dtx.statistics import Estimate

NOT_ESTABLISHED = "not established"
"""Column of the jobs' table."""
_FIGURES = 12  # drawn by default


@dataclass
class Comparison:
    """The jobs as rows, and the figures drawn.

    Attributes:
        rows: One a job: swept fields, status, metrics, and ``not established``: names of analyses, if any.
        warnings: A sentence for each analysis that is not established in some jobs.
        metrics: Names of the metrics drawn.
        left_out: Names of metrics that differ between jobs and were not drawn.
        paths: The figures.
    """

    rows: list[dict[str, Any]]
    warnings: list[str] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)


def compare(
    sweep: Sweep, store: Store, out: Path, metrics: Sequence[str] = (), by: Sequence[str] = ()
) -> Comparison:
    """Collect and draw a sweep's metrics.

    Args:
        sweep: Jobs that are not finished are left out.
        store: Where the artefacts are.
        out: Folder of the figures (PNG).
        metrics: Names or patterns (``calibration/*``); empty: those that differ between jobs, ordered by
            the share of variance that the swept fields explain.
        by: Swept fields to draw against; empty: all but seeds, or the first seed if there is no other field.

    Raises:
        UserError: A metric or field that the sweep does not have.
    """
    import pandas as pd

    doubts = [_doubts(job, store) for job in sweep.jobs]
    rows = [_row(*pair, store) for pair in zip(sweep.jobs, doubts, strict=True)]
    comparison = Comparison(rows, _warnings(doubts))
    frame = pd.DataFrame(rows)
    numbers = [c for c in frame.columns if "/" in c]
    questions = _questions(sweep, by)
    comparison.metrics, comparison.left_out = _chosen(frame, numbers, metrics, questions)
    if not comparison.metrics:
        return comparison
    with building(out) as scratch:
        report = Report(scratch / "new")
        report.out.mkdir()
        for metric in comparison.metrics:
            for question in questions:
                name = f"{metric.replace('/', '_')}_by_{question}"
                report.figure(name, _draw(frame, metric, question, sweep.swept))
                comparison.paths.append(out / "figures" / f"{file_name(name)}.png")
        put(report.out, out, "give another folder with --out", replace=True)
    return comparison


def _finished(job: Job, store: Store) -> list[Stage]:
    return [s for s in stages(job.targets()) if store.where(s) == "local"]


def _row(job: Job, doubts: Mapping[str, str], store: Store) -> dict[str, Any]:
    """Swept fields as values, then the metrics; of equal names that of the first stage, not its control's."""
    numbers: dict[str, float] = {}
    for stage in _finished(job, store):
        measured = read_metrics(store.folder(stage)).items()
        numbers = {k: v for k, v in measured if v is not None} | numbers
    swept = {k: _value(v) for k, v in job.swept.items()}
    unsound = {NOT_ESTABLISHED: ", ".join(doubts)} if doubts else {}
    return {"job": job.number, **swept, "status": job.status or "?", **numbers, **unsound}


def _doubts(job: Job, store: Store) -> dict[str, str]:
    """The job's analyses that are not established, with the reasons."""
    doubts: dict[str, str] = {}
    for stage in _finished(job, store):
        folder = store.folder(stage)
        if (folder / RESULT).is_file() and (reasons := list(Result.read(folder).reasons())):
            doubts.setdefault(stage.name, "; ".join(reasons))
    return doubts


def _warnings(doubts: Sequence[Mapping[str, str]]) -> list[str]:
    """For each analysis the number of jobs in which it is not established, and the first one's reasons."""
    lines = []
    for name in dict.fromkeys(name for job in doubts for name in job):
        reasons = [job[name] for job in doubts if name in job]
        lines.append(
            f"{name} is not established in {len(reasons)} of {len(doubts)} jobs: {reasons[0]}"
        )
    return lines


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
    """Share of a metric's variance that is between the values of the questions, not between seeds."""
    known = frame.dropna(subset=[metric])
    means = known.groupby(questions, sort=False)[metric].transform("mean")
    return round(float(means.var(ddof=0) / known[metric].var(ddof=0)), 6)


@dataclass
class _Series:
    """One colour of a figure: mean and interval at each place, and the single jobs."""

    label: str | None
    places: list[float]
    means: list[float]
    lows: list[float]
    highs: list[float]
    dots: list[tuple[float, float]]


def _draw(frame: pd.DataFrame, metric: str, question: str, swept: Sequence[str]) -> Figure:
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
) -> list[_Series]:
    groups = list(frame.groupby(others[0], sort=False)) if others else [(None, frame)]
    span = (max(place.values()) - min(place.values())) or 1.0
    lines = []
    for i, (name, some) in enumerate(groups):
        shift = (i - (len(groups) - 1) / 2) * 0.02 * span  # so that lines do not hide each other
        line = _Series(None if name is None else str(name), [], [], [], [], [])
        for value, x in place.items():
            jobs = some[some[question] == value].dropna(subset=[metric])
            if not len(jobs):
                continue
            mean = _mean(jobs, metric, question)
            line.places.append(x + shift)
            line.means.append(mean.value)
            line.lows.append(mean.low)  # NaN of a single job: no interval is drawn
            line.highs.append(mean.high)
            line.dots += [(x + shift, float(p)) for p in jobs[metric]]
        if line.places:
            lines.append(line)
    return lines


def _mean(jobs: pd.DataFrame, metric: str, question: str) -> Estimate:
    """The mean over jobs; several with one seed, which differ in further questions, count once."""
    from dtx.statistics import mean_estimate

    seeds = [column for column in jobs if is_seed(str(column)) and column != question]
    if not seeds:
        return mean_estimate(jobs[metric].to_numpy(float), of="jobs")
    names = jobs[seeds].astype(str).agg("/".join, axis=1).to_numpy()
    return mean_estimate(jobs[metric].to_numpy(float), clusters=names, of="seeds")


def _over(
    frame: pd.DataFrame, metric: str, question: str, swept: Sequence[str], others: list[str]
) -> str:
    """What the interval is over, and the number of jobs of each mean."""
    over = [*(s for s in swept if is_seed(s) and s != question), *others[1:]]
    if not over:
        return "single jobs"
    groups = frame.dropna(subset=[metric]).groupby([question, *others[:1]])
    counts = [_mean(jobs, metric, question).n for _, jobs in groups]
    n = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)}-{max(counts)}"
    if max(counts) < 2:
        return f"one job each: no interval over {', '.join(over)}"
    kinds = {_mean(jobs, metric, question).kind.split(" over")[0] for _, jobs in groups}
    kind = " or ".join(sorted(k for k in kinds if not k.startswith("no ")))
    return f"mean and 95% interval ({kind}) over {', '.join(over)} (n = {n})"


def tables(comparison: Comparison) -> list[Table]:
    """A table for each question: mean, interval and number of jobs for each of its values."""
    import pandas as pd

    frame = pd.DataFrame(comparison.rows)
    shown = []
    for question in dict.fromkeys(p.stem.rpartition("_by_")[2] for p in comparison.paths):
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column(question)
        table.add_column("jobs", justify="right")
        for metric in comparison.metrics:
            table.add_column(metric.rpartition("/")[2].replace("_", " "), overflow="fold")
        for value, group in frame.groupby(question, sort=False):
            cells = []
            for metric in comparison.metrics:
                mean = _mean(group.dropna(subset=[metric]), metric, question)
                cells.append(str(mean) if mean.n > 1 else f"{mean.value:.3g}" if mean.n else "-")
            table.add_row(str(value), str(len(group)), *cells)
        shown.append(table)
    return shown
