"""The figures: what edits do in windows beside random ones, and what happens in the environment.

Narrow, one goal below the other: they are read on telephones, too.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.core.result import Result
from dtx.analysis.steering.environment import inside
from dtx.analysis.steering.spec import UNSTEERED, Goal, Play, SteeringSpec
from dtx.figures import new
from dtx.statistics import Estimate, mean_estimate, share_estimate

GREY, BLACK = "#b3b9c6", "#333333"
COLOURS = {
    "activation_addition": "#1d3557",
    "embedding_arithmetic": "#e9a23b",
    "reward_to_go_clamp": "#2a9d5c",
    "optimised": "#d1495b",
}
TARGETS = ("#8d99ae", "#d1495b")
"""Of the low and the high target."""
WIDTH = 4.6
"""Inches: on a telephone of 390 px the letters are then as large as those beside the figure."""
FLOOR = 1e-4
"""Side effects below this are drawn here: the axis is logarithmic."""


def windows(result: Result, spec: SteeringSpec) -> Figure:
    """Success against side effect on held-out windows: each method's chosen edit, and random searches.

    Both where they are worst: success at its least reward-to-go, the side effect at its largest.

    Args:
        result: Of the analysis.
        spec: Goals and thresholds.
    """
    goals = list(spec.goals)
    figure, axes = new(WIDTH, 0.9 + 1.9 * len(goals), mosaic=[[goal] for goal in goals])
    tables, handles = result.tables, {}
    for goal in goals:
        axis = axes[goal]
        scan, kl, controls = (
            _of(tables[name], goal) for name in ("scan", "side_effects", "controls")
        )
        chosen = scan[scan["chosen"]].groupby("method")["success"].min()
        handles["not steered"] = axis.axhline(chosen[UNSTEERED], color=BLACK, lw=0.9, ls="--")
        if len(controls):
            handles["best random vectors"] = axis.plot(
                controls["kl"].clip(lower=FLOOR), controls["success"], "o", ms=4, color=GREY
            )[0]
        for method in chosen.index.drop(UNSTEERED):
            effect = kl.loc[kl["method"] == method, "kl"].max() if len(kl) else FLOOR
            handles[_words(str(method))] = axis.plot(
                max(effect, FLOOR),
                chosen[method],
                "o",
                ms=9,
                mec="white",
                color=COLOURS[str(method)],
            )[0]
        axis.axvspan(spec.max_side_effect, 100, color="#000000", alpha=0.05, lw=0)
        axis.axhline(spec.min_success, color=BLACK, lw=0.5, ls=":")
        axis.set(xscale="log", xlim=(FLOOR / 2, 30), ylim=(-0.06, 1.08), ylabel="success")
        axis.set_title(_words(goal))
    axes[goals[-1]].set_xlabel("largest side effect: KL, nats; shaded: too large")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2)
    return figure


def rollouts(result: Result, spec: SteeringSpec) -> Figure:
    """Return, or share that looks back, at both targets: unsteered, steered and by random vectors.

    Args:
        result: Of the analysis.
        spec: Goals and targets.
    """
    played = result.tables["episodes"]
    played = played[~played["greedy"]]
    rows = {goal: list(_groups(goal, spec.goals[goal], played)) for goal in spec.goals}
    heights = [0.5 + len(groups) for groups in rows.values()]
    figure, axes = new(WIDTH, 1.3 + 0.5 * len(rows) + 0.27 * sum(heights),
                       mosaic=[[goal] for goal in rows], height_ratios=heights)  # fmt: skip
    handles = {}
    for goal, groups in rows.items():
        axis, looks = axes[goal], spec.goals[goal].play is Play.looks_back
        for place, (_, episodes) in enumerate(groups):
            for target, colour, shift in zip(
                (spec.low, spec.high), TARGETS, (-0.13, 0.13), strict=True
            ):
                one = _estimate(episodes[episodes["target"] == target], looks)
                handles[f"asked for {target:g}"] = _mark(axis, one, place + shift, colour)
        axis.set_yticks(range(len(groups)), [name for name, _ in groups])
        axis.set(xlim=(-0.03, 1.03), ylim=(len(groups) - 0.5, -0.5))
        axis.set_title(_words(goal))
        what = "share of episodes that look back" if looks else "return"
        axis.set_xlabel(f"{what}; 95%: {one.kind}")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2)
    return figure


def _groups(name: str, goal: Goal, played: pd.DataFrame):
    """(words, episodes) of each method, by whether something shall change in their layouts."""
    episodes = played[played["goal"] == name]
    within = inside(goal, episodes)
    for where, chosen in (("", within), (", elsewhere", ~within)):
        for method in episodes["method"].unique():
            group = episodes[chosen & (episodes["method"] == method).to_numpy()]
            if len(group):
                words = "not steered" if method == UNSTEERED else _words(method)
                yield words + where, group


def _estimate(episodes: pd.DataFrame, looks: bool) -> Estimate:
    """As the verdict has it: see dtx/analysis/steering/environment.py."""
    if looks:
        return share_estimate(int(episodes["looks_back"].sum()), len(episodes))
    return mean_estimate(episodes.groupby("episode")["return"].mean().to_numpy())


def _mark(axis: Axes, one: Estimate, place: float, colour: str):
    low, high = max(0.0, one.value - one.low), max(0.0, one.high - one.value)
    return axis.errorbar(
        one.value, place, xerr=[[low], [high]], fmt="o", ms=5, color=colour, capsize=2, lw=1.4
    )


def _words(name: str) -> str:
    return name.replace("reward_to_go", "RTG").replace("_", " ")


def _of(table: pd.DataFrame, goal: str) -> pd.DataFrame:
    return table.loc[table["goal"] == goal] if len(table) else table
