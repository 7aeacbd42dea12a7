"""The figure: what steps left change, where they are, and what another clock does."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.core.plots import LAYER_COLOURS, LINE, QUIET, sentence
from dtx.analysis.core.result import Result
from dtx.analysis.countdown.probe import STEPS_LEFT
from dtx.analysis.countdown.spec import (
    ASKED,
    DENOISE,
    GREEDY,
    RECEIVER_STEPS,
    SAME_STEPS,
    TRAINED,
    WHOLE_CLOCK,
)
from dtx.figures import new

WAY_COLOURS = {ASKED: "#1d3557", WHOLE_CLOCK: "#d1803a", SAME_STEPS: "#2a9d5c",
               RECEIVER_STEPS: QUIET}  # fmt: skip


def draw(result: Result) -> Figure:
    """All four panels, in one column that a phone shows whole."""
    if "ways" not in result.tables:
        return sentence(result.finding)
    figure, axes = new(4.6, 11.0, mosaic=[["changes"], ["layers"], ["curve"], ["probes"]])
    _changes(axes["changes"], result.tables["changes"])
    _layers(axes["layers"], result.tables["layers"])
    _curve(axes["curve"], result.tables["curve"])
    _probes(axes["probes"], result.tables["probes"])
    return figure


def _changes(axis: Axes, table: pd.DataFrame) -> None:
    """A line a target: by reward-to-go (full) and by the clock (dashed)."""
    for index, (target, rows) in enumerate(table.groupby("target")):
        colour = LAYER_COLOURS[index % len(LAYER_COLOURS)]
        for way, style in ((ASKED, "-"), (WHOLE_CLOCK, "--")):
            part = rows[rows.way == way].sort_values("shift")
            error = [part.change - part.low, part.high - part.change]
            label = f"RTG {target:g}" if way == ASKED else None
            axis.errorbar(
                part["shift"], part.change, error, fmt=style, color=colour, label=label, lw=1.4, ms=3,
                marker="o", elinewidth=0.7,
            )  # fmt: skip
    axis.axhline(0, color=LINE, lw=0.7)
    axis.set(
        title="Told to have more or fewer steps left",
        xlabel="steps more\nfull: by reward-to-go, dashed: by the clock",
        ylabel="change of log-odds (nats)\nof walking on",
    )
    axis.legend(title="bars: 95% over episodes", title_fontsize=7, fontsize=7)


def _layers(axis: Axes, table: pd.DataFrame) -> None:
    """Both directions of one target after the other would be crowded: a line a source and target."""
    table = table.loc[table.direction == DENOISE]
    styles = ("-", "--", ":", "-.")
    for source in WAY_COLOURS:
        for index, (_, rows) in enumerate(table[table.source == source].groupby("target")):
            axis.plot(
                rows.point, rows.rho, styles[index % len(styles)], marker="o", ms=3, lw=1.3,
                color=WAY_COLOURS[source], label=source if not index else None,
            )  # fmt: skip
    for expected in (0, 1):
        axis.axhline(expected, color=LINE, lw=0.7)
    targets = ", ".join(f"{t:g}" for t in table.target.drop_duplicates())
    points = sorted(table.point.unique())
    axis.set_xticks(points, [f"before\nblock {p}" if p < max(points) else "end" for p in points])
    axis.set(
        title="The last state's stream of another run",
        xlabel=f"a line each for RTG {targets}" if len(table) else "nothing moved",
        ylabel="rho (denoise)",
        ylim=(-0.5, 1.5),
    )
    axis.legend(fontsize=7)


def _curve(axis: Axes, table: pd.DataFrame) -> None:
    rows = table[(table.model == TRAINED) & (table.how == GREEDY)]
    for index, (offset, part) in enumerate(rows.groupby("offset")):
        colour = LAYER_COLOURS[index % len(LAYER_COLOURS)]
        name = f"clock {offset:+d}" if offset else "clock as it is"
        axis.plot(part.target, part.length, "o-", color=colour, ms=3, lw=1.3, label=name)
        possible = part[part.possible]
        axis.plot(possible.target, possible.expected, "--", color=colour, lw=1)
    axis.set(
        title="Greedy episodes with another clock",
        xlabel="target; dashed: expected if it counts",
        ylabel="steps",
    )
    axis.legend(fontsize=7)


def _probes(axis: Axes, table: pd.DataFrame) -> None:
    if not len(table):
        axis.text(0.5, 0.5, "steps left do not vary enough", ha="center", transform=axis.transAxes)
        return
    for index, (key, rows) in enumerate(table.groupby(["what", "source"])):
        what, source = key  # type: ignore[misc]
        style = ":" if what == STEPS_LEFT else "-"
        error = [rows.margin - rows.low, rows.high - rows.margin]
        axis.errorbar(
            rows.point, rows.margin.clip(-1), error, fmt=style, marker="o", ms=3, lw=1.3,
            elinewidth=0.7, color=LAYER_COLOURS[index], label=f"{what}, {source}",
        )  # fmt: skip
    axis.axhline(0, color=LINE, lw=0.7)
    points = sorted(table.point.unique())
    axis.set_xticks(points, [f"before\nblock {p}" if p < max(points) else "end" for p in points])
    axis.set(
        title="What probes gain over inputs and chance",
        ylabel="explained variance over\nthe best baseline",
        ylim=(-1.05, 1),
    )
    axis.legend(fontsize=7)
