"""The figure: the curve with its controls, the outcomes behind it, and the choice at the junction."""

from __future__ import annotations

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
    CalibrationSpec,
)
from dtx.analysis.core.notes import controls, note
from dtx.analysis.core.plots import headline
from dtx.analysis.core.result import Result
from dtx.dataset.episodes import OUTCOMES
from dtx.figures import (
    BLACK,
    GREY,
    MODEL_COLOURS,
    OUTCOME_COLOURS,
    OUTCOME_HATCHES,
    PHONE,
    SKY,
    VERMILION,
    new,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as PlotlyFigure

STYLES = {
    DT: {"color": MODEL_COLOURS["dt"], "marker": "o", "lw": 2.2, "ms": 5, "zorder": 5},
    GREEDY: {"color": SKY, "marker": "s", "lw": 1.2, "ms": 4, "zorder": 4},
    CLONE: {
        "color": MODEL_COLOURS["behaviour clone"],
        "marker": "^",
        "lw": 1.5,
        "ms": 4,
        "zorder": 3,
    },
    SHUFFLED: {
        "color": MODEL_COLOURS["shuffled"],
        "marker": "D",
        "lw": 1.2,
        "ms": 3.5,
        "zorder": 3,
    },
    UNTRAINED: {
        "color": MODEL_COLOURS["untrained"],
        "marker": "v",
        "lw": 1.2,
        "ms": 4,
        "zorder": 2,
    },
    RANDOM: {"color": BLACK, "marker": "", "lw": 1.2, "ls": ":", "zorder": 1},
    FAILING: {"color": VERMILION, "marker": "X", "lw": 0, "ms": 7, "zorder": 6},
}
_SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "X": "x",
}
"""Plotly's names of matplotlib's markers."""
WRONG, RIGHT = OUTCOME_COLOURS["wrong"], OUTCOME_COLOURS["success"]


def title(result: Result, low: float, high: float) -> str:
    """What was achieved at both ends, and the verdicts."""
    curve = result.tables["curve"]
    model = curve[curve.model == DT].set_index("target")
    at = (
        f"Asked for {high:g}: success {model.success[high]:.0%}; "
        f"asked for {low:g}: return {model.mean_return[low]:.2f}. "
    )
    verdicts = {"steered": "Steered by RTG", "calibrated": "return equals the target"}
    words = [f"{verdicts.get(c.id, c.text)}: {c.verdict.value}" for c in result.claims]
    return at + "; ".join(words)


def draw(result: Result, spec: CalibrationSpec) -> Figure:
    """The curve with its controls, outcomes, and the choice at the decision.

    Args:
        result: Of the analysis.
        spec: Its targets, criteria, and the training episodes that a target needs to be supported.
    """
    curve, decision = result.tables["curve"], result.tables["decision"]
    junction = len(decision) > 0
    panels = ["curve", "outcomes", *(["junction"] if junction else [])]
    heights = [4.6, 2.0, 2.4][: len(panels)]
    figure, axes = new(
        PHONE, sum(heights), mosaic=[[name] for name in panels], height_ratios=heights
    )
    _curve(axes["curve"], curve, sorted(spec.targets), spec.support)
    _outcomes(axes["outcomes"], curve)
    if junction:
        _junction(axes["junction"], decision)
    lacking = result.claims[0].evidence if result.claims else ""
    about = note(lacking, controls(result))
    headline(figure, result, title(result, spec.criteria.low, spec.criteria.high), about)
    return figure


def _curve(axis: Axes, curve: pd.DataFrame, targets: list[float], support: int) -> None:
    axis.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--", zorder=0, label="return = target")
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
            axis.axvspan(target - step / 2, target + step / 2, facecolor="0.93", zorder=-1, lw=0)
    shaded = f" (shaded: under {support} training episodes)" if (~model.supported).any() else ""
    axis.set(
        xlabel=f"target reward-to-go{shaded}",
        ylabel="achieved return, mean and 95% interval",
        xlim=(targets[0] - step / 2, targets[-1] + step / 2),
        ylim=(-0.03, 1.03),
    )
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=1, fontsize=8)


def _outcomes(axis: Axes, curve: pd.DataFrame) -> None:
    part = curve[curve.model == DT].sort_values("target")
    axis.stackplot(
        part.target,
        *[part[o] for o in OUTCOMES],
        labels=OUTCOMES,
        colors=[OUTCOME_COLOURS[o] for o in OUTCOMES],
        hatch=[OUTCOME_HATCHES[o] for o in OUTCOMES],
        edgecolor="white",
        lw=0,
    )
    axis.set(
        xlabel="target reward-to-go",
        ylabel="share of episodes",
        title="Outcomes of the DT, sampled",
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
    mark: dict = {"ls": "", "ms": 6, "mfc": "white", "mew": 1.6}
    shapes = {"wrong_turn": "D", "right_turn": "o"}
    for column, colour, name, line in (
        ("wrong_turn", WRONG, "wrong turn", "--"),
        ("right_turn", RIGHT, "right turn", "-"),
    ):
        axis.plot(mean.index, mean[column], color=colour, lw=2, ls=line, label=name)
        axis.fill_between(mean.index, low[column], high[column], color=colour, alpha=0.15, lw=0)
        data = decision[decision.source == RECORDED].groupby("target")[column].mean()
        axis.plot(data.index, data, mec=colour, marker=shapes[column], zorder=6, **mark)
    recorded = bool((decision.source != DT).any())
    if recorded:
        axis.plot([], [], mec=BLACK, marker="o", label="demonstrations", **mark)
    axis.set(
        xlabel="target reward-to-go",
        ylabel="P(turn)",
        title=f"At the decision: mean and range of {decision.layout.nunique()} layouts",
        ylim=(-0.03, 1.03),
    )
    axis.legend(loc="upper left" if recorded else "center left")


def page(result: Result, spec: CalibrationSpec) -> PlotlyFigure:
    """The curve, with the numbers of a point on hovering."""
    import plotly.graph_objects as go

    curve = result.tables["curve"]
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            x=[0, 1],
            y=[0, 1],
            mode="lines",
            name="return = target",
            line={"color": GREY, "dash": "dash"},
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
                marker={"symbol": _SYMBOLS.get(style["marker"], "circle"), "size": 7},
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
        title=title(result, spec.criteria.low, spec.criteria.high),
        xaxis_title="target reward-to-go",
        yaxis_title="achieved return (mean, 95% interval)",
        legend={"orientation": "h", "y": -0.18},
    )
    return figure
