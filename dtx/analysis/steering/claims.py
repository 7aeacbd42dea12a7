"""From the tables to metrics and to verdicts on the goals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dtx.analysis.core.result import About, Claim, Verdict
from dtx.analysis.steering.spec import UNSTEERED, Goal, Play, SteeringSpec

Tables = Mapping[str, pd.DataFrame]
"""See :class:`dtx.analysis.steering.measure.SteeringMeasures`."""

LEAST_GAP = 0.05
"""Of the return asked for much and for little, under which no share of it can be measured."""


@dataclass(frozen=True)
class Judged:
    """One method at its chosen site and size, on held-out windows and in the environment.

    Attributes:
        method: Its name. site: Where the edit is. alpha: Its size.
        success: On held-out windows. low: Lower end of its interval. high: Upper end.
        kl: Side effect in nats; no number where no window is to stay as it is.
        control: Highest success of a random vector of at most the same norm, at no larger side effect than
            this one's or ``max_side_effect`` (of all those vectors, if each has a larger one).
        beats: Its interval lies above every such control and above no steering.
        plays: Whether the environment agrees; None where that cannot be measured.
        value: What the environment shows (return at the low target, or share of episodes that look back).
        score: On training windows, for the order of the methods.
        asks: Whether the edit is nothing but another reward-to-go.
    """

    method: str
    site: str
    alpha: float
    success: float
    low: float
    high: float
    kl: float
    control: float
    beats: bool
    plays: bool | None
    value: float
    score: float
    asks: bool


def judge(spec: SteeringSpec, tables: Tables) -> tuple[dict[str, float | None], list[Claim]]:
    """Metrics, and a claim a goal."""
    metrics: dict[str, float | None] = {}
    claims = []
    for name, goal in spec.goals.items():
        judged = methods(spec, name, goal, tables)
        scan = _of(tables["scan"], name)
        unsteered = scan[(scan["method"] == UNSTEERED) & (scan["windows"] == "held out")]
        before = float(unsteered.iloc[0]["success"])
        value, _ = environment(spec, goal, _of(tables["rollouts"], name), UNSTEERED)
        metrics[f"{name}_unsteered_success"] = before
        metrics[f"{name}_unsteered_{goal.play.value}"] = value
        for method, one in judged.items():
            metrics[f"{name}_{method}_success"] = one.success
            metrics[f"{name}_{method}_side_effect"] = one.kl
            metrics[f"{name}_{method}_random_success"] = one.control
            metrics[f"{name}_{method}_{goal.play.value}"] = one.value
        claims.append(_claim(spec, name, goal, judged, before, value))
    return metrics, claims


def methods(spec: SteeringSpec, name: str, goal: Goal, tables: Tables) -> dict[str, Judged]:
    """Every method, the one that did best on training windows first."""
    scan, controls = _of(tables["scan"], name), _of(tables["controls"], name)
    sites, played = _of(tables["sites"], name), _of(tables["rollouts"], name)
    held = scan[(scan["windows"] == "held out") & scan["chosen"]]
    nothing = held[held["method"] == UNSTEERED].iloc[0]["success"]
    judged = {}
    for _, row in held[held["method"] != UNSTEERED].iterrows():
        others = controls[
            (controls["method"] == row["method"]) & (controls["alpha"] <= row["alpha"])
        ]
        near = others[others["kl"].fillna(0) <= max(row["kl"], spec.max_side_effect)]
        control = float((near if len(near) else others)["success"].max())
        value, plays = environment(spec, goal, played, str(row["method"]))
        site = sites[(sites["method"] == row["method"]) & sites["chosen"]].iloc[0]
        judged[row["method"]] = Judged(
            method=str(row["method"]),
            site=str(row["site"]),
            alpha=float(row["alpha"]),
            success=float(row["success"]),
            low=float(row["success_low"]),
            high=float(row["success_high"]),
            kl=float(row["kl"]),
            control=control,
            beats=bool(row["success_low"] > max(control, nothing)),
            plays=plays,
            value=value,
            score=float(site["score"]),
            asks=bool(site["asks"]),
        )
    return dict(sorted(judged.items(), key=lambda item: -item[1].score))


def environment(
    spec: SteeringSpec, goal: Goal, played: pd.DataFrame, method: str
) -> tuple[float, bool | None]:
    """What the episodes of a method show, and whether it is what the goal wants.

    For the return: the mean at the low target in the layouts that shall change. It must come by
    ``min_gap_closed`` of the way to the unsteered one at the high target; nowhere else, and at the high
    target nowhere, may it move by more than the rest of that way.
    """
    if not len(played):
        return float("nan"), None
    steered = played[played["method"] == method]
    if goal.play is Play.looks_back:
        share = float(steered["looks_back"].mean())
        return share, share >= spec.min_success
    own = played[played["method"] == UNSTEERED]
    named = {layout for place in goal.change for layout in place.layouts}
    everywhere = not named or any(not place.layouts for place in goal.change)

    def mean(rows: pd.DataFrame, target: float, inside: bool = True) -> float:
        there = np.full(len(rows), True) if everywhere else rows["layout"].isin(named).to_numpy()
        chosen = rows[(rows["target"] == target) & (there == inside)]
        return float(chosen["return"].mean()) if len(chosen) else float("nan")

    value, gap = mean(steered, spec.low), mean(own, spec.high) - mean(own, spec.low)
    if gap < LEAST_GAP or goal.pairs is not None:
        return value, None
    moved = [
        abs(mean(steered, target, inside) - mean(own, target, inside))
        for target, inside in ((spec.low, False), (spec.high, True), (spec.high, False))
    ]
    closed = (value - mean(own, spec.low)) / gap
    worst = np.nanmax(moved)  # there is no outside where all layouts shall change
    return value, bool(closed >= spec.min_gap_closed and worst <= (1 - spec.min_gap_closed) * gap)


def _claim(
    spec: SteeringSpec,
    name: str,
    goal: Goal,
    judged: dict[str, Judged],
    before: float,
    value: float,
) -> Claim:
    verdict, evidence = _verdict(spec, goal, judged, before, value)
    return Claim(
        id=name,
        text=goal.claim,
        criterion=f"held-out success at least {spec.min_success:g} and above every random vector, "
        f"side effect at most {spec.max_side_effect:g} nats, and episodes that agree",
        evidence=evidence,
        verdict=verdict,
        about=About.MODEL if goal.like is None else About.REWARD_TO_GO,
    )


def _verdict(
    spec: SteeringSpec,
    goal: Goal,
    judged: dict[str, Judged],
    before: float,
    value: float,
) -> tuple[Verdict, str]:
    """The verdict on a goal and the numbers behind it."""
    if before >= spec.min_success:
        reason = f"unsteered success is {before:.2f} already"
        return Verdict.NOT_ESTABLISHED, f"nothing to steer: {reason}"
    if goal.play is Play.return_ and goal.pairs is None and judged:
        measurable = any(one.plays is not None for one in judged.values())
        if np.isfinite(value) and not measurable:
            reason = f"return hardly changes with reward-to-go ({value:.2f} at {spec.low:g})"
            return Verdict.NOT_ESTABLISHED, f"nothing to steer: {reason}"
    if not judged:
        return Verdict.NOT_ESTABLISHED, "no method can be used on this model"

    def reached(one: Judged) -> bool:
        enough = one.success >= spec.min_success
        small = not one.kl > spec.max_side_effect
        return bool(one.beats and enough and small and one.plays is not False)

    ways = [one for one in judged.values() if reached(one)]
    inside = [one for one in ways if not one.asks]
    best = [*inside, *ways, *judged.values()][0]
    beside = [
        f"{_words(one)} {one.success:.2f} at KL {one.kl:.3f}"
        for one in judged.values()
        if one is not best
    ]
    evidence = ", ".join([_numbers(spec, goal, best, before, value), *beside])
    enough = best.success >= spec.min_success
    if inside:
        return Verdict.CONFIRMED, evidence
    if ways:
        asking = "only by holding the reward-to-go tokens, which is asking for more"
        return Verdict.DEPENDS, f"{evidence}; {asking}"
    if best.beats and enough:
        lacks = []
        if best.kl > spec.max_side_effect:
            lacks.append(f"side effect above {spec.max_side_effect:g}")
        if best.plays is False:
            lacks.append("the episodes do not agree")
        return Verdict.DEPENDS, f"{evidence}; {' and '.join(lacks)}"
    if enough:
        return Verdict.NOT_ESTABLISHED, f"{evidence}; random vectors do as well"
    return Verdict.NOT_CONFIRMED, evidence


def _numbers(spec: SteeringSpec, goal: Goal, one: Judged, before: float, value: float) -> str:
    """What a method did, in words."""
    shown = ""
    if np.isfinite(value):
        what = "looks back" if goal.play is Play.looks_back else f"return at {spec.low:g}"
        shown = f", {what} {one.value:.2f} (unsteered {value:.2f})"
    return (
        f"{_words(one)} at {one.site} x{one.alpha:g}: success "
        f"{one.success:.2f} [{one.low:.2f}, {one.high:.2f}] (unsteered "
        f"{before:.2f}, random at most {one.control:.2f}), KL {one.kl:.3f}{shown}"
    )


def _words(one: Judged) -> str:
    return one.method.replace("_", " ")


def _of(table: pd.DataFrame, goal: str) -> pd.DataFrame:
    """A goal's rows."""
    return table.loc[table["goal"] == goal] if len(table) else table
