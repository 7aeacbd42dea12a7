"""The figure: what steps left change, where they are, and what another clock does."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.core.plots import LINE, TARGET_COLOURS, headline, sentence, sentence_case
from dtx.analysis.core.result import Result
from dtx.analysis.countdown.probe import STEPS_LEFT
from dtx.analysis.countdown.spec import (
    ASKED,
    DENOISE,
    GREEDY,
    RECEIVER_STEPS,
    SAME_STEPS,
    SAMPLED,
    TRAINED,
    WHOLE_CLOCK,
)
from dtx.figures import BLUE, CLASS_COLOURS, GREEN, GREY, MARKERS, ORANGE, PHONE, new

WAY_COLOURS = {ASKED: BLUE, WHOLE_CLOCK: ORANGE, SAME_STEPS: GREEN, RECEIVER_STEPS: GREY}
WAY_MARKS = {ASKED: "o", WHOLE_CLOCK: "s", SAME_STEPS: "^", RECEIVER_STEPS: "v"}
WAY_WORDS = {
    ASKED: "another RTG (expected 1)",
    WHOLE_CLOCK: "another clock (expected 1)",
    SAME_STEPS: "as many steps left (expected 1)",
    RECEIVER_STEPS: "control: the receiver's steps left (expected 0)",
}


def draw(result: Result) -> Figure:
    """All panels, narrow enough for a phone: what moves the policy, where it is, what another clock does."""
    if "ways" not in result.tables:
        return sentence(result.finding)
    layers = result.tables["layers"]
    layers = layers[layers["direction"] == DENOISE]
    targets = [float(target) for target in layers["target"].drop_duplicates()]
    panels = [f"layers {target:g}" for target in targets]
    grid = [(panels[i : i + 2] * 2)[:2] for i in range(0, len(panels), 2)]
    rows = [["changes"] * 2, *grid, ["curve"] * 2, ["probes"] * 2]
    heights = [2.6, *[1.9] * len(grid), 2.6, 2.4]
    figure, axes = new(PHONE, sum(heights) + 0.6, mosaic=rows, height_ratios=heights)
    _changes(axes["changes"], result.tables["changes"])
    for target, panel in zip(targets, panels, strict=True):
        _layers(axes[panel], layers[layers["target"] == target], target)
    handles = [
        axes["changes"].plot(
            [], [], color=colour, marker=WAY_MARKS[way], ms=4, label=WAY_WORDS[way]
        )[0]
        for way, colour in WAY_COLOURS.items()
    ]
    _curve(axes["curve"], result.tables["curve"])
    _probes(axes["probes"], result.tables["probes"])
    for axis in axes.values():
        axis.tick_params(labelsize=7.5)
    figure.legend(handles=handles, loc="outside lower left", fontsize=7.5, title_fontsize=7.5,
                  title="The last state token's stream, from a run with", alignment="left")  # fmt: skip
    note = (
        f"Bars: 95%, {_counts(result.tables)}; untrained models are the control of changes, of episodes "
        "and of probes"
    )
    headline(figure, result, _finding(result), note)
    return figure


def _counts(tables: Mapping[str, pd.DataFrame]) -> str:
    """Episodes behind each number, over all panels."""
    n = pd.concat(
        [tables[name]["n"] for name in ("changes", "layers", "probes") if len(tables[name])]
    )
    return f"n = {n.min():.0f} to {n.max():.0f} episodes" if len(n) else "no number has an interval"


def _finding(result: Result) -> str:
    verdict = {claim.id: f" ({claim.verdict.value})" for claim in result.claims}
    m = result.metrics
    parts = []
    if m.get("least_slope") is not None:
        parts.append(
            f"Per step left the clock moves the policy {m['least_slope']:.2f} to "
            f"{m['largest_slope']:.2f} times as far as RTG{verdict.get('one_count', '')}"
        )
    if m.get("least_followed") is not None:
        parts.append(
            f"episodes follow a reset clock {m['least_followed']:.2f} to "
            f"{m['largest_followed']:.2f} of the way{verdict.get('follows_the_clock', '')}"
        )
    return sentence_case("; ".join(parts)) or result.finding


def _changes(axis: Axes, table: pd.DataFrame) -> None:
    """A line a target: by reward-to-go (full) and by the clock (dashed)."""
    for index, (target, rows) in enumerate(table.groupby("target")):
        colour = TARGET_COLOURS[index % len(TARGET_COLOURS)]
        for way, style in ((ASKED, "-"), (WHOLE_CLOCK, "--")):
            part = rows[rows.way == way].sort_values("shift")
            error = [part.change - part.low, part.high - part.change]
            label = f"RTG {target:g}" if way == ASKED else None
            axis.errorbar(
                part["shift"], part.change, error, fmt=style, color=colour, label=label, lw=1.4, ms=4,
                marker=MARKERS[index % len(MARKERS)], elinewidth=0.7,
            )  # fmt: skip
    axis.axhline(0, color=LINE, lw=0.7)
    axis.set_title("Told to have more or fewer steps left", fontsize=8.5)
    axis.set_xlabel("steps more; full: by RTG, dashed: by the clock", fontsize=7.5)
    axis.set_ylabel("change of log-odds\nof walking on (nats)", fontsize=7.5)
    axis.legend(fontsize=7.5)


def _layers(axis: Axes, table: pd.DataFrame, target: float) -> None:
    """A line a source, at one reward-to-go."""
    for source, colour in WAY_COLOURS.items():
        rows = table[table.source == source]
        error = [(rows.rho - rows.low).clip(lower=0), (rows.high - rows.rho).clip(lower=0)]
        axis.errorbar(
            rows.point, rows.rho, error, fmt="-", marker=WAY_MARKS[source], ms=3.5, lw=1.2,
            elinewidth=0.7, color=colour,
        )  # fmt: skip
    for expected in (0, 1):
        axis.axhline(expected, color=LINE, lw=0.7)
    _points(axis, table)
    axis.set_ylim(-0.5, 1.5)
    axis.set_title(f"state swapped, RTG {target:g}", fontsize=7.5)
    axis.set_ylabel("restored change (0-1)", fontsize=7.5)


def _points(axis: Axes, table: pd.DataFrame) -> None:
    points = sorted(table.point.unique())
    axis.set_xticks(points, [str(p) if p < max(points) else "end" for p in points])
    axis.set_xlabel("before block", fontsize=7.5)


def _curve(axis: Axes, table: pd.DataFrame) -> None:
    rows = table[(table.model == TRAINED) & (table.how == GREEDY)]
    untrained = table[(table.model != TRAINED) & (table.how == SAMPLED) & (table.offset == 0)]
    for index, (_, part) in enumerate(untrained.groupby("model")):
        name = None if index else "control: untrained, sampled"
        axis.plot(part.target, part.length, ":", color=GREY, lw=1.3, label=name)
    for index, (offset, part) in enumerate(rows.groupby("offset")):
        colour = CLASS_COLOURS[index % len(CLASS_COLOURS)]
        name = f"clock {offset:+d}" if offset else "clock as it is"
        marker = MARKERS[index % len(MARKERS)]
        axis.plot(
            part.target, part.length, "-", marker=marker, color=colour, ms=4, lw=1.3, label=name
        )
        possible = part[part.possible]
        axis.plot(possible.target, possible.expected, "--", color=colour, lw=1)
    axis.set_title("Greedy episodes with another clock", fontsize=8.5)
    axis.set_xlabel("target RTG; dashed: expected if the model counts steps", fontsize=7.5)
    axis.set_ylabel("episode length (steps)", fontsize=7.5)
    axis.set_ylim(0, 1.35 * table.length.max())
    axis.legend(fontsize=7.5, ncols=2, loc="upper right")


def _probes(axis: Axes, table: pd.DataFrame) -> None:
    axis.set_title("What linear probes gain over baselines", fontsize=8.5)
    if not len(table):
        axis.text(0.5, 0.5, "steps left do not vary enough", ha="center", transform=axis.transAxes)
        return
    for index, (key, rows) in enumerate(table.groupby(["what", "source"])):
        what, source = key  # type: ignore[misc]
        style = ":" if what == STEPS_LEFT else "-"
        error = [rows.margin - rows.low, rows.high - rows.margin]
        axis.errorbar(
            rows.point, rows.margin.clip(-1), error, fmt=style, marker=MARKERS[index], ms=4, lw=1.3,
            elinewidth=0.7, color=CLASS_COLOURS[index], label=f"{what}, {source}",
        )  # fmt: skip
    axis.axhline(0, color=LINE, lw=0.7)
    _points(axis, table)
    axis.set_ylabel("explained variance over\nthe best baseline", fontsize=7.5)
    axis.set_ylim(-1.05, 1.6)
    axis.legend(fontsize=7.5, ncols=2, loc="upper left")
