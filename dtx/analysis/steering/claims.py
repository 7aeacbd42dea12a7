"""From C9's tables to headline numbers and to verdicts on its goals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dtx.analysis.core.claims import CONFIRMED, DEPENDS, NOT_CONFIRMED, Claim
from dtx.analysis.steering import Goal, Play, Steering
from dtx.analysis.steering.compute import UNSTEERED, Found

LEAST_GAP = 0.05
"""Of the return asked for much and for little, under which no share of it can be told."""


@dataclass(frozen=True)
class Judged:
    """One method at its chosen site and size, on held-out windows and in the environment.

    Attributes:
        row: Of table ``scan``. control: Highest success of a random vector of
            at most the same norm, at no larger side effect than this one's or ``max_side_effect`` (of all
            those vectors, if each has a larger one).
        beats: Its interval lies above every such control and above no steering.
        plays: Whether the environment agrees; None where it cannot be told.
        value: What the environment shows (return at the low target, or share of episodes that look back).
        score: On training windows.
        asks: Whether the edit is nothing but another reward-to-go.
    """

    row: Any
    control: float
    beats: bool
    plays: bool | None
    value: float
    score: float
    asks: bool


def judge(stage: Steering, found: Found) -> tuple[dict[str, float | None], list[Claim], list[str]]:
    """Headline, claims, and which identities failed."""
    numbers: dict[str, float | None] = {
        "steering/identity_error": found.identity_error,
        "steering/distinct_inputs": found.distinct,
    }
    claims = []
    for name, goal in stage.goals.items():
        judged = methods(stage, name, goal, found)
        scan = _of(found.tables["scan"], name)
        before = scan[(scan["method"] == UNSTEERED) & (scan["windows"] == "held out")].iloc[0]
        value, _ = environment(stage, goal, _of(found.tables["rollouts"], name), UNSTEERED)
        numbers[f"steering/{name}_unsteered_success"] = before["success"]
        numbers[f"steering/{name}_unsteered_{goal.play.value}"] = value
        for method, one in judged.items():
            numbers[f"steering/{name}_{method}_success"] = one.row["success"]
            numbers[f"steering/{name}_{method}_side_effect"] = one.row["kl"]
            numbers[f"steering/{name}_{method}_random_success"] = one.control
            numbers[f"steering/{name}_{method}_{goal.play.value}"] = one.value
        claims.append(_claim(stage, goal, judged, before, value))
    failed = []
    if not found.identity_error <= stage.tolerance:
        failed = [f"identity error {found.identity_error:.2g} is above {stage.tolerance:g}"]
    return numbers, claims, failed


def methods(stage: Steering, name: str, goal: Goal, found: Found) -> dict[str, Judged]:
    """Every method, the one that did best on training windows first."""
    scan, controls = _of(found.tables["scan"], name), _of(found.tables["controls"], name)
    sites, played = _of(found.tables["sites"], name), _of(found.tables["rollouts"], name)
    held = scan[(scan["windows"] == "held out") & scan["chosen"]]
    nothing = held[held["method"] == UNSTEERED].iloc[0]["success"]
    judged = {}
    for _, row in held[held["method"] != UNSTEERED].iterrows():
        mine = controls[(controls["method"] == row["method"]) & (controls["alpha"] <= row["alpha"])]
        near = mine[mine["kl"].fillna(0) <= max(row["kl"], stage.max_side_effect)]
        control = float((near if len(near) else mine)["success"].max())
        value, plays = environment(stage, goal, played, str(row["method"]))
        site = sites[(sites["method"] == row["method"]) & sites["chosen"]].iloc[0]
        judged[row["method"]] = Judged(
            row=row,
            control=control,
            beats=bool(row["success_low"] > max(control, nothing)),
            plays=plays,
            value=value,
            score=float(site["score"]),
            asks=bool(site["asks"]),
        )
    return dict(sorted(judged.items(), key=lambda item: -item[1].score))


def environment(
    stage: Steering, goal: Goal, played: pd.DataFrame, method: str
) -> tuple[float, bool | None]:
    """What the episodes of a method show, and whether it is what the goal wants.

    For the return: the mean at the low target in the layouts that shall change. It must come by
    ``min_gap_closed`` of the way to the unsteered one at the high target; nowhere else, and at the high
    target nowhere, may it move by more than the rest of that way.
    """
    if not len(played):
        return float("nan"), None
    mine = played[played["method"] == method]
    if goal.play is Play.looks_back:
        share = float(mine["looks_back"].mean())
        return share, share >= stage.min_success
    own = played[played["method"] == UNSTEERED]
    named = {layout for place in goal.change for layout in place.layouts}
    everywhere = not named or any(not place.layouts for place in goal.change)

    def mean(rows: pd.DataFrame, target: float, inside: bool = True) -> float:
        there = np.full(len(rows), True) if everywhere else rows["layout"].isin(named).to_numpy()
        chosen = rows[(rows["target"] == target) & (there == inside)]
        return float(chosen["return"].mean()) if len(chosen) else float("nan")

    value, gap = mean(mine, stage.low), mean(own, stage.high) - mean(own, stage.low)
    if gap < LEAST_GAP or goal.pairs is not None:
        return value, None
    moved = [
        abs(mean(mine, target, inside) - mean(own, target, inside))
        for target, inside in ((stage.low, False), (stage.high, True), (stage.high, False))
    ]
    closed = (value - mean(own, stage.low)) / gap
    worst = np.nanmax(moved)  # there is no outside where all layouts shall change
    return value, bool(closed >= stage.min_gap_closed and worst <= (1 - stage.min_gap_closed) * gap)


def _claim(
    stage: Steering, goal: Goal, judged: dict[str, Judged], before: Any, value: float
) -> Claim:
    what = "looks back" if goal.play is Play.looks_back else f"return at {stage.low:g}"
    wanted = (
        f"held-out success at least {stage.min_success:g} and above every random vector, side effect at most "
        f"{stage.max_side_effect:g} nats, and episodes that agree"
    )
    if before["success"] >= stage.min_success:
        done = f"unsteered success is {before['success']:.2f} already"
        return Claim(
            claim=goal.claim,
            wanted=wanted,
            found=done,
            verdict=f"not established: nothing to steer, {done}",
        )
    if goal.play is Play.return_ and goal.pairs is None and judged:
        told_apart = [one for one in judged.values() if one.plays is not None]
        if np.isfinite(value) and not told_apart:
            done = f"its return hardly changes with reward-to-go ({value:.2f} at {stage.low:g})"
            return Claim(
                claim=goal.claim,
                wanted=wanted,
                found=done,
                verdict=f"not established: nothing to steer, {done}",
            )
    if not judged:
        return Claim(
            claim=goal.claim,
            wanted=wanted,
            found="no method can be used on this model",
            verdict="not established: no method can be used",
        )

    def told(one: Judged) -> str:
        row = one.row
        played = f", {what} {one.value:.2f} (unsteered {value:.2f})" if np.isfinite(value) else ""
        return (
            f"{_words(one)} at {row['site']} x{row['alpha']:g}: success "
            f"{row['success']:.2f} [{row['success_low']:.2f}, {row['success_high']:.2f}] (unsteered "
            f"{before['success']:.2f}, random at most {one.control:.2f}), KL {row['kl']:.3f}{played}"
        )

    def reached(one: Judged) -> bool:
        enough = one.row["success"] >= stage.min_success
        small = not one.row["kl"] > stage.max_side_effect
        return bool(one.beats and enough and small and one.plays is not False)

    ways = [one for one in judged.values() if reached(one)]
    inside = [one for one in ways if not one.asks]
    best = [*inside, *ways, *judged.values()][0]
    beside = [
        f"{_words(one)} {one.row['success']:.2f} at KL {one.row['kl']:.3f}"
        for one in judged.values()
        if one is not best
    ]
    found = ", ".join([told(best), *beside])
    enough = best.row["success"] >= stage.min_success
    if inside:
        verdict = CONFIRMED
    elif ways:
        verdict = DEPENDS
        found += "; only by holding the reward-to-go tokens, which is asking for more"
    elif best.beats and enough:
        verdict = DEPENDS
        lacks = [
            f"side effect above {stage.max_side_effect:g}"
            if best.row["kl"] > stage.max_side_effect
            else "",
            "" if best.plays is not False else "the episodes do not agree",
        ]
        found += f"; {' and '.join(x for x in lacks if x)}"
    else:
        verdict = "not established: random vectors do as well" if enough else NOT_CONFIRMED
    return Claim(claim=goal.claim, wanted=wanted, found=found, verdict=verdict)


def _words(one: Judged) -> str:
    return str(one.row["method"]).replace("_", " ")


def _of(table: pd.DataFrame, goal: str) -> pd.DataFrame:
    """A goal's rows."""
    return table.loc[table["goal"] == goal] if len(table) else table
