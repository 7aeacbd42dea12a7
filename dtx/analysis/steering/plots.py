"""The figures: what edits do in windows beside random ones, and what happens in the environment.

Narrow, one goal below the other: they are read on telephones, too.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.core.plots import LINE, counted, headline, words
from dtx.analysis.core.result import Result
from dtx.analysis.steering.environment import inside
from dtx.analysis.steering.spec import RANDOM, UNSTEERED, Goal, Play, SteeringSpec
from dtx.figures import BLUE, GREEN, GREY, INK, MARKERS, ORANGE, PHONE, SKY, WHITE, new
from dtx.statistics import Estimate, mean_estimate, share_estimate

METHOD_COLOURS = {
    "activation_addition": BLUE,
    "embedding_arithmetic": ORANGE,
    "reward_to_go_clamp": GREEN,
    "optimised": SKY,
    "random": GREY,
}
MARKS = dict(zip(METHOD_COLOURS, MARKERS, strict=False)) | {"random": "."}
TARGET_COLOURS, TARGET_MARKS = (ORANGE, BLUE), ("v", "^")
"""Of the low and the high target."""
ELSEWHERE = ", elsewhere"
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
    figure, axes = new(
        PHONE, 0.9 + 1.9 * len(goals), mosaic=[[goal] for goal in goals], sharex=True
    )
    handles: dict = {}
    for goal in goals:
        handles |= _goal(axes[goal], result, goal, spec)
    axes[goals[-1]].set_xlabel("largest side effect (KL, nats); shaded: too large", fontsize=8)
    figure.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=2, fontsize=7.5)
    kinds = counted(result.tables["scan"].query("chosen")["interval"])
    note = (
        "Success at the RTG where it is least, on held-out windows; dotted: what is wanted; "
        f"bars: 95%, {kinds}; control: the best vector of each random search; "
        f"side effects below {FLOOR:g} stand there"
    )
    headline(figure, result, _windows_finding(result, goals), note)
    return figure


def _goal(axis: Axes, result: Result, goal: str, spec: SteeringSpec) -> dict:
    """Draw one goal; handles of the legend by their words."""
    tables, handles = result.tables, {}
    scan, kl, controls = (_of(tables[name], goal) for name in ("scan", "side_effects", "controls"))
    chosen = scan[scan["chosen"]]
    worst = chosen.loc[chosen.groupby("method")["success"].idxmin()].set_index("method")
    unsteered = float(worst["success"][UNSTEERED])
    handles["not steered"] = axis.axhline(unsteered, color=LINE, lw=0.9, ls="--")
    if len(controls):
        handles["control: random vectors"] = axis.plot(
            controls["kl"].clip(lower=FLOOR), controls["success"], MARKS["random"],
            ms=6, color=METHOD_COLOURS["random"],
        )[0]  # fmt: skip
    for method in worst.index.drop(UNSTEERED):
        of = kl[kl["method"] == method] if len(kl) else kl
        x = (of.loc[of["kl"].idxmax()] if len(of) else pd.Series()).reindex(["kl", "low", "high"])
        y = worst.loc[method]
        place = np.nanmax([x["kl"], FLOOR])
        across = [
            [max(0.0, place - np.nanmax([x["low"], FLOOR]))],
            [np.nanmax([x["high"] - place, 0])],
        ]
        up = [[max(0.0, y["success"] - y["low"])], [max(0.0, y["high"] - y["success"])]]
        handles[words(str(method))] = axis.errorbar(
            place, y["success"], xerr=across, yerr=up, fmt=MARKS[str(method)], ms=7, mec=WHITE,
            color=METHOD_COLOURS[str(method)], capsize=2, lw=1.2,
        )  # fmt: skip
    axis.axvspan(spec.max_side_effect, 100, color=INK, alpha=0.06, lw=0)
    axis.axhline(spec.min_success, color=LINE, lw=0.8, ls=":")
    axis.set(xscale="log", xlim=(FLOOR / 2, 30), ylim=(-0.06, 1.08))
    axis.set_ylabel("success (share of windows)", fontsize=7.5)
    axis.tick_params(labelsize=7.5)
    axis.set_title(f"{words(goal)}: {_verdict(result, goal)}", fontsize=8.5)
    return handles


def _verdict(result: Result, goal: str) -> str:
    return next((c.verdict.value for c in result.claims if c.id == goal), "no verdict")


def _windows_finding(result: Result, goals: list[str]) -> str:
    """The best method of each goal beside no steering and random vectors."""
    said = []
    for goal in goals:
        scan = _of(result.tables["scan"], goal)
        chosen = scan[scan["chosen"]].groupby("method")["success"].min()
        methods = chosen.drop(UNSTEERED)
        if not len(methods):
            continue
        controls = _of(result.tables["controls"], goal)
        beside = f", random {controls['success'].max():.2f}" if len(controls) else ""
        best = methods.idxmax()
        said.append(
            f"{words(goal)} {methods[best]:.2f} by {words(str(best))} (not steered "
            f"{chosen[UNSTEERED]:.2f}{beside})"
        )
    return "Steering, least success in windows: " + "; ".join(said)


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
    figure, axes = new(PHONE, 1.3 + 0.65 * len(rows) + 0.27 * sum(heights),
                       mosaic=[[goal] for goal in rows], height_ratios=heights)  # fmt: skip
    handles = {}
    for goal, groups in rows.items():
        axis, looks = axes[goal], spec.goals[goal].play is Play.looks_back
        for place, (_, episodes) in enumerate(groups):
            for i, (target, shift) in enumerate(((spec.low, -0.13), (spec.high, 0.13))):
                one = _estimate(episodes[episodes["target"] == target], looks)
                handles[f"asked for RTG {target:g}"] = _mark(axis, one, place + shift, i)
        axis.set_yticks(range(len(groups)), [name for name, _ in groups], fontsize=7.5)
        axis.tick_params(axis="x", labelsize=7.5)
        axis.set(xlim=(-0.03, 1.03), ylim=(len(groups) - 0.5, -0.5))
        axis.set_title(f"{words(goal)}: {_verdict(result, goal)}", fontsize=8.5)
        what = "share of episodes that look back" if looks else "return"
        axis.set_xlabel(f"{what}\nbars: 95%, {one.kind}", fontsize=7.5)
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=2, fontsize=7.5
    )
    note = (
        f"{len(played):,} sampled episodes; control: random vectors of the same size; "
        "elsewhere: layouts in which nothing shall change"
    )
    headline(figure, result, _rollouts_finding(rows, spec), note)
    return figure


def _rollouts_finding(rows: dict[str, list[tuple[str, pd.DataFrame]]], spec: SteeringSpec) -> str:
    """What the steered model does beside the unsteered one, where something shall change."""
    said: dict[str, list[str]] = {}
    for goal, groups in rows.items():
        looks = spec.goals[goal].play is Play.looks_back
        target = spec.high if looks else spec.low
        values = [
            f"{_estimate(episodes[episodes['target'] == target], looks).value:.2f}"
            for name, episodes in groups
            if ELSEWHERE not in name and not name.startswith(RANDOM)
        ]
        what = "share that looks back" if looks else "return"
        change = f"{words(goal)} {' to '.join(values)}"
        said.setdefault(f"{what} at RTG {target:g}", []).append(change)
    numbers = "; ".join(f"{what}: {', '.join(each)}" for what, each in said.items())
    return f"Episodes, not steered to steered: {numbers}"


def _groups(name: str, goal: Goal, played: pd.DataFrame):
    """(words, episodes) of each method, by whether something shall change in their layouts."""
    episodes = played[played["goal"] == name]
    within = inside(goal, episodes)
    for where, chosen in (("", within), (ELSEWHERE, ~within)):
        for method in episodes["method"].unique():
            group = episodes[chosen & (episodes["method"] == method).to_numpy()]
            if len(group):
                name = "not steered" if method == UNSTEERED else words(method)
                yield name + where, group


def _estimate(episodes: pd.DataFrame, looks: bool) -> Estimate:
    """As the verdict has it: see dtx/analysis/steering/environment.py."""
    if looks:
        return share_estimate(int(episodes["looks_back"].sum()), len(episodes))
    return mean_estimate(episodes.groupby("episode")["return"].mean().to_numpy())


def _mark(axis: Axes, one: Estimate, place: float, target: int):
    low, high = max(0.0, one.value - one.low), max(0.0, one.high - one.value)
    return axis.errorbar(
        one.value, place, xerr=[[low], [high]], fmt=TARGET_MARKS[target], ms=5, capsize=2, lw=1.4,
        color=TARGET_COLOURS[target],
    )  # fmt: skip


def _of(table: pd.DataFrame, goal: str) -> pd.DataFrame:
    return table.loc[table["goal"] == goal] if len(table) else table
