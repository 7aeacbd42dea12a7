"""The figure: the curve with its controls, the outcomes behind it, and the choice at the junction."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.calibration.spec import (
    CLONE,
    DT,
    FAILING,
    GREEDY,
    RANDOM,
    RECORDED,
    SHUFFLED,
    UNTRAINED,
)
from dtx.analysis.core.result import Result
from dtx.dataset.episodes import OUTCOMES
from dtx.figures import OUTCOME_COLOURS, new

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as PlotlyFigure

STYLES = {
    DT: {"color": "#1d3557", "marker": "o", "lw": 2.2, "ms": 5, "zorder": 5},
    GREEDY: {"color": "#5b8fb9", "marker": "s", "lw": 1.2, "ms": 4, "zorder": 4},
    CLONE: {"color": "#e9a23b", "marker": "^", "lw": 1.5, "ms": 4, "zorder": 3},
    SHUFFLED: {"color": "#8b5fbf", "marker": "D", "lw": 1.2, "ms": 3.5, "zorder": 3},
    UNTRAINED: {"color": "#8d99ae", "marker": "v", "lw": 1.2, "ms": 4, "zorder": 2},
    RANDOM: {"color": "#b9c0cf", "marker": "", "lw": 1.2, "ls": ":", "zorder": 1},
    FAILING: {"color": "#d1495b", "marker": "X", "lw": 0, "ms": 7, "zorder": 6},
}
WRONG, RIGHT = OUTCOME_COLOURS["wrong"], OUTCOME_COLOURS["success"]


def title(result: Result) -> str:
    """The verdicts in one line."""
    words = [f"{claim.text}: {claim.verdict.value}" for claim in result.claims]
    return (
        "; ".join(words)
        if result.established
        else "Not established: " + "; ".join(result.reasons())
    )


def draw(result: Result, targets: Sequence[float], support: int) -> Figure:
    """The curve with its controls, outcomes, and the choice at the decision.

    Args:
        result: Of the analysis.
        targets: Asked for.
        support: Training episodes that a target needs to count as supported.
    """
    curve, decision = result.tables["curve"], result.tables["decision"]
    junction = len(decision) > 0
    mosaic = [["curve", "curve"], ["outcomes", "junction" if junction else "outcomes"]]
    figure, axes = new(7.0, 7.2, mosaic=mosaic, height_ratios=[1.5, 1])
    _curve(axes["curve"], curve, sorted(targets), support)
    _outcomes(axes["outcomes"], curve)
    if junction:
        _junction(axes["junction"], decision)
    heading = "\n".join(textwrap.wrap(title(result), 84))
    figure.suptitle(heading, fontsize=10, fontweight="bold", x=0.01, ha="left")
    return figure


def _curve(axis: Axes, curve: pd.DataFrame, targets: list[float], support: int) -> None:
    axis.plot([0, 1], [0, 1], color="#c9ced8", lw=1, ls="--", zorder=0)
    axis.text(0.93, 0.95, "what was asked for", color="#7a8194", fontsize=8, ha="right")
    for name, style in STYLES.items():
        part = curve[curve.model == name].sort_values("target")
        if not len(part):
            continue
        episodes, distinct = int(part.episodes.sum()), int(part.distinct_episodes.sum())
        label = f"{name} ({episodes:,} episodes, {distinct:,} distinct)"
        axis.plot(part.target, part.mean_return, label=label, **style)
        axis.fill_between(part.target, part.low, part.high, color=style["color"], alpha=0.18, lw=0)
    step = min(b - a for a, b in pairwise(targets))
    model = curve[curve.model == DT]
    for target, supported in zip(model.target, model.supported, strict=True):
        if not supported:
            axis.axvspan(target - step / 2, target + step / 2, color="#f3f0ea", zorder=-1, lw=0)
    note = f"; shaded: under {support} training episodes" if (~model.supported).any() else ""
    axis.set(
        xlabel=f"target reward-to-go{note}",
        ylabel="achieved return, mean and 95% interval",
        title="Calibration",
        xlim=(targets[0] - step / 2, targets[-1] + step / 2),
        ylim=(-0.03, 1.03),
    )
    axis.legend(loc="upper left")


def _outcomes(axis: Axes, curve: pd.DataFrame) -> None:
    part = curve[curve.model == DT].sort_values("target")
    axis.stackplot(
        part.target,
        *[part[o] for o in OUTCOMES],
        labels=OUTCOMES,
        colors=[OUTCOME_COLOURS[o] for o in OUTCOMES],
        lw=0,
    )
    axis.set(
        xlabel="target reward-to-go",
        ylabel="share of episodes",
        title="Outcomes, sampled",
        ylim=(0, 1),
        xlim=(part.target.min(), part.target.max()),
    )
    axis.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 0.02),
        ncols=3,
        facecolor="white",
        frameon=True,
        framealpha=0.85,
        edgecolor="none",
        handlelength=1,
    )


def _junction(axis: Axes, decision: pd.DataFrame) -> None:
    model = decision[decision.source == DT].groupby("target")[["wrong_turn", "right_turn"]]
    mean, low, high = model.mean(), model.min(), model.max()
    mark: dict = {"ls": "", "marker": "D", "ms": 6, "mfc": "white", "mew": 1.6}
    for column, colour, name in (
        ("wrong_turn", WRONG, "wrong turn"),
        ("right_turn", RIGHT, "right turn"),
    ):
        axis.plot(mean.index, mean[column], color=colour, lw=2, label=name)
        axis.fill_between(mean.index, low[column], high[column], color=colour, alpha=0.15, lw=0)
        data = decision[decision.source == RECORDED].groupby("target")[column].mean()
        axis.plot(data.index, data, mec=colour, zorder=6, **mark)
    recorded = bool((decision.source != DT).any())
    if recorded:
        axis.plot([], [], mec="#555", label="demonstrations", **mark)
    axis.set(
        xlabel="target reward-to-go",
        ylabel="probability",
        title="At the junction, 4 layouts"
        if decision.layout.nunique() == 4
        else "At the decision square",
        ylim=(-0.03, 1.03),
    )
    axis.legend(loc="upper left" if recorded else "center left")


def page(result: Result) -> PlotlyFigure:
    """The curve, with the numbers of a point on hovering."""
    import plotly.graph_objects as go

    curve = result.tables["curve"]
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            x=[0, 1],
            y=[0, 1],
            mode="lines",
            name="what was asked for",
            line={"color": "#c9ced8", "dash": "dash"},
        )
    )
    for name, style in STYLES.items():
        part = curve[curve.model == name].sort_values("target")
        figure.add_trace(
            go.Scatter(
                x=part.target,
                y=part.mean_return,
                mode="lines+markers" if style["marker"] else "lines",
                name=name,
                line={
                    "color": style["color"],
                    "width": style["lw"] + 0.5,
                    "dash": "dot" if style.get("ls") else "solid",
                },
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": part.high - part.mean_return,
                    "arrayminus": part.mean_return - part.low,
                    "thickness": 1,
                },
                customdata=part[
                    [
                        "success",
                        "wrong",
                        "truncated",
                        "mean_length",
                        "episodes",
                        "distinct_episodes",
                        "training_episodes",
                    ]
                ],
                hovertemplate=(
                    "asked %{x:.2f}, got %{y:.3f}<br>success %{customdata[0]:.0%}, "
                    "wrong %{customdata[1]:.0%}, truncated %{customdata[2]:.0%}"
                    "<br>mean length %{customdata[3]:.1f}; %{customdata[4]} episodes, "
                    "%{customdata[5]} distinct"
                    "<br>%{customdata[6]:,} training episodes nearest to this target"
                ),
            )
        )
    figure.update_layout(
        template="plotly_white",
        title=title(result),
        xaxis_title="target reward-to-go",
        yaxis_title="achieved return (mean, 95% interval)",
        legend={"orientation": "h", "y": -0.18},
    )
    return figure
