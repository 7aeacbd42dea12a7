"""Tables of a sweep's metrics, as they are printed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from dtx.sweep.metrics import is_seed, mean_over_seeds
from dtx.text import columns

if TYPE_CHECKING:
    import pandas as pd

    from dtx.statistics import Estimate
    from dtx.sweep.compare import Comparison

_ROWS = 40  # values of a swept field that are printed


def tables(comparison: Comparison) -> Iterator[Table]:
    """A table for each swept field and group of metrics: mean, 95% interval and jobs for each value.

    Where a seed alone is swept, the last row is the mean over all seeds.
    """
    import pandas as pd

    frame = pd.DataFrame(comparison.rows)
    groups: dict[str, list[str]] = {}
    for metric in comparison.metrics:
        groups.setdefault(metric.rpartition("/")[0], []).append(metric)
    for question in comparison.questions:
        for group, metrics in groups.items():
            yield _table(frame, question, group, metrics)


def _table(frame: pd.DataFrame, question: str, group: str, metrics: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    table.title, table.title_style = f"{group} by {question}", "bold"
    table.add_column(question)
    table.add_column("jobs", justify="right")
    for metric in metrics:
        table.add_column(metric.rpartition("/")[2].replace("_", " "), overflow="fold")
    rows = [(str(value), jobs) for value, jobs in frame.groupby(question, sort=False)]
    shown = rows[:_ROWS]
    if is_seed(question) and len(rows) > 1:
        shown.append(("mean", frame))
    means = [
        [mean_over_seeds(jobs.dropna(subset=[m]), m, question) for m in metrics]
        for _, jobs in shown
    ]
    kinds = {mean.kind for row in means for mean in row if mean.n > 1}
    one_kind = kinds.pop() if len(kinds) == 1 else None
    for (value, jobs), row in zip(shown, means, strict=True):
        cells = [_cell(mean, one_kind is not None) for mean in row]
        table.add_row(value, str(len(jobs)), *cells)
    notes = [f"mean [95% interval, {one_kind}]"] if one_kind else []
    notes += [f"the first {_ROWS} of {len(rows)} values"] * (len(rows) > _ROWS)
    table.caption, table.caption_justify = "; ".join(notes) or None, "left"
    return table


def _cell(mean: Estimate, kind_is_told: bool) -> str:
    """A number alone where it is of one job: no interval."""
    if not mean.n:
        return "-"
    if mean.n == 1 or mean.low == mean.high == mean.value:
        return _number(mean.value)
    ends = f"{_number(mean.value)} [{_number(mean.low)}, {_number(mean.high)}]"
    return ends if kind_is_told else f"{ends} ({mean.kind})"


def _number(value: float) -> str:
    """Three digits, or a whole number from 1,000 on."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def listing(comparison: Comparison) -> str:
    """All metrics of a sweep: name, number of jobs that have it, smallest and largest value."""
    import pandas as pd

    frame = pd.DataFrame(comparison.rows)
    rows = [("metric", "jobs", "smallest", "largest")]
    for metric in comparison.every:
        values = frame[metric].dropna()
        ends = [f"{x:.4g}" for x in (values.min(), values.max())] if len(values) else ["-", "-"]
        star = "*" if metric in comparison.metrics else ""
        rows.append((f"{metric}{star}", str(len(values)), *ends))
    return f"{columns(rows)}\n* drawn and printed by `dtx compare`; others with --metric NAME"
