"""The figures: success against side effect, sizes, and what happens in the environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dtx.analysis.core.result import Result
from dtx.analysis.steering.spec import RANDOM, UNSTEERED, Play
from dtx.figures import new

GREY = "#b3b9c6"
COLOURS = {
    "activation_addition": "#1d3557",
    "embedding_arithmetic": "#e9a23b",
    "reward_to_go_clamp": "#2a9d5c",
    "optimised": "#d1495b",
    UNSTEERED: "#333333",
    RANDOM: GREY,
}
FLOOR = 1e-4
"""Side effects below this are drawn here: the axis is logarithmic."""


def windows(result: Result, goals: Sequence[str], max_side_effect: float) -> Figure:
    """Above: success against side effect, a line a method over its sizes. Below: success over sizes.

    Args:
        result: Of the analysis.
        goals: By name.
        max_side_effect: The side effects above are shaded.
    """
    mosaic = [[f"{row}/{goal}" for goal in goals] for row in ("effect", "size")]
    figure, axes = new(7.0, 5.6, mosaic=mosaic)
    scan, controls = result.tables["scan"], result.tables["controls"]
    handles = {}
    for goal in goals:
        effect, size = axes[f"effect/{goal}"], axes[f"size/{goal}"]
        held = scan[(scan["goal"] == goal) & (scan["windows"] == "held out")]
        before = held.loc[held["method"] == UNSTEERED, "success"].iloc[0]
        if len(controls):
            others = controls[controls["goal"] == goal]
            handles["random vectors, same norm"] = effect.plot(
                others["kl"].clip(lower=FLOOR), others["success"], ".", ms=3.5, color=GREY, zorder=1
            )[0]
            worst = others.groupby("alpha")["success"].max()
            size.plot(worst.index, worst, ":", color=GREY, lw=1.5)
        for method, rows in held[held["method"] != UNSTEERED].groupby("method", sort=False):
            rows = rows.sort_values("alpha")
            colour = COLOURS[str(method)]
            line = {"color": colour, "lw": 1, "marker": "o", "ms": 3}
            handles[str(method).replace("_", " ")] = effect.plot(
                rows["kl"].clip(lower=FLOOR), rows["success"], **line, zorder=2
            )[0]
            size.plot(rows["alpha"], rows["success"], **line)
            size.fill_between(
                rows["alpha"], rows["success_low"], rows["success_high"], color=colour, alpha=0.12
            )
            chosen = rows[rows["chosen"]]
            for axis, x in ((effect, chosen["kl"].clip(lower=FLOOR)), (size, chosen["alpha"])):
                handles["chosen on training windows"] = axis.plot(
                    x, chosen["success"], "*", ms=11, mec="white", mew=0.6, color=colour, zorder=3
                )[0]
        handles["unsteered"] = effect.axhline(before, color="#333333", lw=0.8, ls="--", zorder=0)
        size.axhline(before, color="#333333", lw=0.8, ls="--", zorder=0)
        effect.axvspan(max_side_effect, 100, color="#000000", alpha=0.04, lw=0)
        effect.set(xscale="log", xlim=(FLOOR / 2, 30), title=goal.replace("_", " "),
                   xlabel="side effect: KL, nats")  # fmt: skip
        size.set_xlabel("size (1: the whole difference)")
        for axis in (effect, size):
            axis.set_ylim(-0.04, 1.06)
            if goal == goals[0]:
                axis.set_ylabel("success, held out")
    handles = {"unsteered": handles.pop("unsteered"), **handles}
    if "chosen on training windows" in handles:
        handles["chosen on training windows"] = _star()
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _star() -> Line2D:
    return Line2D([], [], marker="*", ms=10, color="#333333", lw=0)


def rollouts(result: Result, plays: Mapping[str, Play], low: float, high: float) -> Figure:
    """Return at both targets or share that looks back, by layout and method.

    Args:
        result: Of the analysis.
        plays: By goal, what must change.
        low: Target of the first column. high: Of the second.
    """
    played, goals = result.tables["rollouts"], list(plays)
    figure, axes = new(7.0, 1.2 + 1.9 * len(goals), mosaic=[
        [f"{goal}/{target:g}" for target in (low, high)] for goal in goals
    ])  # fmt: skip
    handles = {}
    for goal in goals:
        episodes = played[played["goal"] == goal]
        looks = plays[goal] is Play.looks_back
        value = "looks_back" if looks else "return"
        shown = list(episodes["method"].unique())
        for target in (low, high):
            axis = axes[f"{goal}/{target:g}"]
            layouts = list(episodes["layout"].unique())
            width = 0.8 / len(shown)
            for place, method in enumerate(shown):
                rows = _rows(episodes, method, target, layouts)
                x = np.arange(len(layouts)) + (place - (len(shown) - 1) / 2) * width
                bars = axis.bar(x, rows[value], width * 0.92, color=COLOURS[method])
                handles["random vector" if method == RANDOM else method.replace("_", " ")] = bars
            axis.set_xticks(range(len(layouts)), layouts)
            axis.set(ylim=(0, 1.05), title=f"{goal.replace('_', ' ')}, RTG {target:g}")
            if target == low:
                axis.set_ylabel("share that looks back" if looks else "return")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _rows(played: pd.DataFrame, method: str, target: float, layouts: list[str]) -> pd.DataFrame:
    rows = played[(played["method"] == method) & (played["target"] == target)]
    return rows.set_index("layout").reindex(layouts)
