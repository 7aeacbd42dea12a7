"""The figures: the logit difference in parts: by window, ranked, by cell of the view, by neuron."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.attribution.spec import BIAS
from dtx.analysis.core.plots import TARGET_COLOURS, bars, heatmap, limit_of, title
from dtx.analysis.core.result import Result
from dtx.figures import new

COLUMNS = 16
"""Windows that a picture has room for; the table has all."""
MLP_COLOUR = "#d1803a"


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
    """Components by window; beside them the ranking, the strongest neurons, the cells of the view.

    Args:
        result: Of the analysis. contrast: The difference, in words. shown: Components in the ranking.
    """
    value = by_window(result.tables["components"]).iloc[:, :COLUMNS]
    names = window_names(result.tables["components"])[:COLUMNS]
    figure, axes = new(
        7.0,
        max(7.0, 1.6 + 0.17 * len(value)),
        mosaic=[["windows", "ranking"], ["windows", "neurons"], ["windows", "cells"]],
        width_ratios=[1.25, 1],
        height_ratios=[1.1, 1, 1.15],
    )
    title(figure, f"Direct attribution of logit {contrast}")
    main = axes["windows"]
    image = heatmap(main, value, value.index.tolist(), names)
    main.set(title="by window: layout and RTG")
    figure.colorbar(image, ax=main, location="bottom", shrink=0.7, pad=0.01, label="logits")
    ranking, neurons = result.tables["ranking"], result.tables["neurons"]
    _ranking(axes["ranking"], ranking, shown)
    targets = neurons.target.unique()
    lead = int(np.flatnonzero(_same(targets, ranking.target.iloc[0]))[0])
    _neurons(axes["neurons"], neurons[_same(neurons.target, targets[lead])])
    _cells(figure, axes["cells"], result.arrays["cells"][lead])
    axes["cells"].set_title(f"last view, by cell: support{_at(targets[lead])}")
    return figure


def _same(targets: pd.Series | np.ndarray, target: float) -> np.ndarray:
    """Where the target is this one; missing ones are the same."""
    values = np.asarray(targets, float)
    return np.isnan(values) if np.isnan(target) else values == target


def _at(target: float) -> str:
    return "" if np.isnan(target) else f" at RTG {target:g}"


def _ranking(axis: Axes, ranking: pd.DataFrame, shown: int) -> None:
    """The components that are largest at any target, with a bar for each target."""
    top = ranking[ranking.kind != BIAS]
    names = top.sort_values("support", ascending=False).component.drop_duplicates()[:shown]
    targets = np.sort(top.target.unique())
    for index, target in enumerate(targets):
        rows = top[_same(top.target, target)].set_index("component").loc[names].reset_index()
        place = np.arange(len(rows))[::-1] + (0.5 - (index + 0.5) / len(targets)) * 0.8
        colour = TARGET_COLOURS[index % len(TARGET_COLOURS)]
        label = _at(target).removeprefix(" at ") or None
        height = 0.8 / len(targets)
        bars(
            axis, place, rows.support, rows.low, rows.high, height=height, color=colour, label=label
        )
    axis.axvline(float(top.random_95.iloc[0]), color="#333", lw=1, ls="--", label="random, 95%")
    axis.set_yticks(np.arange(len(names))[::-1], names)
    axis.tick_params(axis="y", labelsize=7)
    axis.set(title=f"components: support, {top.interval.iloc[0]}")
    axis.set_xlabel("logits towards the choice made")
    axis.legend(loc="lower right", fontsize=7)


def _neurons(axis: Axes, neurons: pd.DataFrame) -> None:
    rows = neurons[::-1]
    names = [f"MLP{i} neuron {f}" for i, f in zip(rows.layer, rows.neuron, strict=True)]
    bars(axis, names, rows.support, rows.low, rows.high, color=MLP_COLOUR)
    axis.tick_params(axis="y", labelsize=7)
    axis.set(title=f"neurons: support{_at(rows.target.iloc[0])}")
    axis.set_xlabel("logits towards the choice made")


def _cells(figure: Figure, axis: Axes, cell_xy: np.ndarray) -> None:
    image = heatmap(axis, cell_xy.T, range(7), range(7), size=9, rotation=0, aspect="equal")
    axis.plot(3, 6, marker="^", color="#333", ms=6)
    axis.set(xlabel="column (the agent is the triangle)")
    figure.colorbar(image, ax=axis, shrink=0.8, label="logits")


def page(result: Result, contrast: str) -> go.Figure:
    """Components by window, all of them, with values by pointing."""
    value = by_window(result.tables["components"])
    limit, names = limit_of(value), window_names(result.tables["components"])
    figure = go.Figure(
        go.Heatmap(
            z=value.to_numpy(),
            x=[f"{i}: {name}" for i, name in enumerate(names)],
            y=value.index.tolist(),
            colorscale="RdBu_r",
            zmin=-limit,
            zmax=limit,
            hovertemplate="%{y}<br>%{x}<br>%{z:.3f} logits<extra></extra>",
        )
    )
    figure.update_layout(
        template="plotly_white",
        title=f"Direct attribution of logit {contrast}, by window",
        yaxis={"autorange": "reversed"},
        height=max(500, 90 + 20 * len(value)),
    )
    return figure
