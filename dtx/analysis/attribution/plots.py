"""The logit difference in parts: ranked, by neuron, by cell of the view; a page of all by window."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.attribution.spec import BIAS
from dtx.analysis.core.plots import LINE, TARGET_COLOURS, bars, counted, headline, heatmap, limit_of
from dtx.analysis.core.result import Result
from dtx.dt.names import neuron_name, renamed
from dtx.figures import HATCHES, NEGATIVE, PHONE, POSITIVE, SIGNED, WHITE, new

NEURONS = 10
"""Neurons that have room; the table has more."""


def by_window(components: pd.DataFrame) -> pd.DataFrame:
    """Values by component (rows) and window (columns), with all biases as one."""
    varies = components[components.kind != BIAS]
    value = varies.pivot(index="component", columns="window", values="value")
    value = value.loc[varies.component.unique()]
    value.loc["all biases"] = components[components.kind == BIAS].groupby("window").value.sum()
    return value


def window_names(components: pd.DataFrame) -> list[str]:
    """Layout and target of each window."""
    frame = components.drop_duplicates("window")
    return [
        f"{layout or 'window'} {target:.2g}"
        for layout, target in zip(frame.layout, frame.target, strict=True)
    ]


def draw(result: Result, contrast: str, shown: int) -> Figure:
    """The components ranked, the strongest neurons, the cells of the view; by window on the page.

    Args:
        result: Of the analysis. contrast: The difference, in words. shown: Components in the ranking.
    """
    ranking, neurons = result.tables["ranking"], result.tables["neurons"]
    top = ranking[ranking.kind != BIAS]
    names = top.sort_values("support", ascending=False).component.drop_duplicates()[:shown]
    targets = np.sort(top.target.unique())
    asked = neurons.target.unique()
    lead = int(np.flatnonzero(_same(asked, ranking.target.iloc[0]))[0])
    strongest = neurons[_same(neurons.target, asked[lead])].head(NEURONS)
    heights = [
        0.7 + (0.08 + 0.13 * len(targets)) * len(names),
        0.7 + 0.19 * len(strongest),
        2.4,
    ]
    figure, axes = new(
        PHONE,
        sum(heights) + 0.3,
        mosaic=[["ranking"], ["neurons"], ["cells"]],
        height_ratios=heights,
    )
    _ranking(axes["ranking"], top, names, targets)
    _neurons(axes["neurons"], strongest)
    _cells(figure, axes["cells"], result.arrays["cells"][lead])
    axes["cells"].set_title(f"cells of the last view{_at(asked[lead])}", fontsize=8.5)
    note = (
        f"Support: logits towards the choice made, of {contrast}; bars: 95%, {counted(top.interval)}; "
        "control: 95% of random directions (dashed)"
    )
    headline(figure, result, _finding(top), note)
    return figure


def _finding(ranking: pd.DataFrame) -> str:
    """The strongest component at each reward-to-go, and whether it is beyond random directions."""
    said = []
    for _, rows in ranking.groupby("target", sort=False, dropna=False):
        best = rows.loc[rows.support.idxmax()]
        beyond = "beyond" if best.low > best.random_95 else "not beyond"
        said.append(
            f"{renamed(best.component)} {best.support:+.2f} of {best.ld:.2f} logits{_at(best.target)} "
            f"({beyond} random directions, {best.random_95:.2f})"
        )
    return "Most of the choice is written by " + "; ".join(said)


def _same(targets: pd.Series | np.ndarray, target: float) -> np.ndarray:
    """Where the target is this one; missing ones are the same."""
    values = np.asarray(targets, float)
    return np.isnan(values) if np.isnan(target) else values == target


def _at(target: float) -> str:
    return "" if np.isnan(target) else f" at RTG {target:g}"


def _ranking(axis: Axes, top: pd.DataFrame, names: pd.Series, targets: np.ndarray) -> None:
    """The components that are largest at any target, with a bar for each target."""
    for index, target in enumerate(targets):
        rows = top[_same(top.target, target)].set_index("component").loc[names].reset_index()
        place = np.arange(len(rows))[::-1] + (0.5 - (index + 0.5) / len(targets)) * 0.8
        style = {
            "color": TARGET_COLOURS[index % len(TARGET_COLOURS)],
            "hatch": HATCHES[index % len(HATCHES)],
            "label": _at(target).removeprefix(" at ") or None,
            "edgecolor": WHITE,
            "linewidth": 0.4,
        }
        bars(axis, place, rows.support, rows.low, rows.high, height=0.8 / len(targets), **style)
    axis.axvline(
        float(top.random_95.iloc[0]), color=LINE, lw=1, ls="--", label="control: random, 95%"
    )
    labels = [renamed(name) for name in names]
    axis.set_yticks(np.arange(len(names))[::-1], labels, fontsize=7.5)
    axis.tick_params(axis="x", labelsize=7.5)
    axis.set_title("components", fontsize=8.5)
    axis.set_xlabel("support (logits)", fontsize=7.5)
    axis.legend(loc="lower right", fontsize=7.5)


def _neurons(axis: Axes, neurons: pd.DataFrame) -> None:
    rows = neurons[::-1]
    names = [neuron_name(i, f) for i, f in zip(rows.layer, rows.neuron, strict=True)]
    colours = np.where(rows.support > 0, POSITIVE, NEGATIVE)
    bars(axis, names, rows.support, rows.low, rows.high, color=colours)
    axis.tick_params(labelsize=7.5)
    axis.set_title(f"the strongest neurons{_at(rows.target.iloc[0])}", fontsize=8.5)
    axis.set_xlabel("support (logits)", fontsize=7.5)


def _cells(figure: Figure, axis: Axes, cell_xy: np.ndarray) -> None:
    image = heatmap(axis, cell_xy.T, range(7), range(7), size=7.5, rotation=0, aspect="equal")
    axis.plot(3, 6, marker="^", color=LINE, mec=WHITE, ms=8)
    axis.set_xlabel("column (triangle: the agent)", fontsize=7.5)
    axis.set_ylabel("row", fontsize=7.5)
    bar = figure.colorbar(image, ax=axis, shrink=0.8)
    bar.set_label("support (logits)", fontsize=7.5)
    bar.ax.tick_params(labelsize=7.5)


def page(result: Result, contrast: str) -> go.Figure:
    """Components by window, all of them, with values by pointing."""
    value = by_window(result.tables["components"])
    limit, names = limit_of(value), window_names(result.tables["components"])
    figure = go.Figure(
        go.Heatmap(
            z=value.to_numpy(),
            x=[f"{i}: {name}" for i, name in enumerate(names)],
            y=[renamed(name) for name in value.index],
            colorscale=SIGNED,
            zmin=-limit,
            zmax=limit,
            hovertemplate="%{y}<br>%{x}<br>%{z:.3f} logits<extra></extra>",
        )
    )
    figure.update_layout(
        template="plotly_white",
        title=f"Direct attribution of the logit difference {contrast}, by window",
        yaxis={"autorange": "reversed"},
        height=max(500, 90 + 20 * len(value)),
    )
    return figure
