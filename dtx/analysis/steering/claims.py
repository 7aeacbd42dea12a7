"""From the tables to metrics, controls and verdicts on the goals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dtx.analysis.core.controls import STRONGEST
from dtx.analysis.core.result import About, Claim, Control, Relation, Verdict
from dtx.analysis.steering.environment import Shown, shown
from dtx.analysis.steering.spec import UNSTEERED, Goal, Play, SteeringSpec
from dtx.statistics import Estimate, mean_estimate

Tables = Mapping[str, pd.DataFrame]
"""See :class:`dtx.analysis.steering.measure.SteeringMeasures`."""


@dataclass(frozen=True)
class Judged:
    """One method at its chosen site and size.

    Attributes:
        method: Its name. site: Where the edit is. alpha: Its size.
        success: On held-out windows, at the reward-to-go where it is least. at: Which that is.
        probability: Of the wanted action, where it is least.
        kl: Side effect in nats where it is largest; None if no window is to stay as it is.
        control: Success and probability that hardly a random search exceeds; None if there were none.
        conditions: By name; None where an interval includes the limit, or nothing was measured.
        shown: What the episodes show; None if none were played.
        asks: Whether it is nothing but another reward-to-go. like: That in words.
        score: On training windows, for the order of the methods.
        moved: Whether it changes any probability there beyond rounding.
    """

    method: str
    site: str
    alpha: float
    success: float
    probability: float
    at: float
    kl: Estimate | None
    control: tuple[float, float] | None
    conditions: dict[str, bool | None]
    shown: Shown | None
    asks: bool
    like: str
    score: float
    moved: bool

    @property
    def verdict(self) -> Verdict:
        """Of all conditions."""
        return Verdict.judge(self.conditions.values())


def judge(
    spec: SteeringSpec, tables: Tables, reads: bool
) -> tuple[dict[str, float | None], list[Control], list[Claim]]:
    """Metrics, a control and a claim a goal.

    Args:
        spec: Thresholds.
        tables: What was measured.
        reads: Whether the model has reward-to-go tokens.
    """
    metrics: dict[str, float | None] = {}
    controls, claims = [], []
    for name, goal in spec.goals.items():
        judged = methods(spec, name, goal, tables)
        before = shown(spec, goal, _of(tables["episodes"], name), UNSTEERED)
        unsteered, _, _ = _least(_of(tables["scan"], name), UNSTEERED)
        metrics[f"{name}_unsteered_success"] = unsteered
        metrics[f"{name}_unsteered_{goal.play.value}"] = before.value.value
        for one in judged:
            metrics[f"{name}_{one.method}_success"] = one.success
            metrics[f"{name}_{one.method}_side_effect"] = one.kl.value if one.kl else None
            if one.shown is not None:
                metrics[f"{name}_{one.method}_random_success"] = one.control and one.control[0]
                metrics[f"{name}_{one.method}_{goal.play.value}"] = one.shown.value.value
        if goal.like is not None and not reads:
            verdict, evidence = Verdict.NOT_APPLICABLE, "the model reads no reward-to-go"
        else:
            verdict, evidence = _verdict(spec, goal, judged, unsteered, before)
        claims.append(_claim(spec, goal, name, verdict, evidence))
        searched = _of(tables["controls"], name)
        if len(searched) and verdict is not Verdict.NOT_APPLICABLE:
            value = mean_estimate(searched["success"].to_numpy(), of="random searches")
            what = f"success of the best random vectors at {name}"
            controls.append(Control.of(what, value, Relation.BELOW, spec.min_success))
    return metrics, controls, claims


def methods(spec: SteeringSpec, name: str, goal: Goal, tables: Tables) -> list[Judged]:
    """Every method, the one that did best on training windows first."""
    sites = _of(tables["sites"], name)
    if not len(sites):
        return []
    chosen = sites[sites["chosen"]].sort_values("score", ascending=False)
    return [_judged(spec, name, goal, tables, row) for _, row in chosen.iterrows()]


def _judged(spec: SteeringSpec, name: str, goal: Goal, tables: Tables, row: pd.Series) -> Judged:
    method = str(row["method"])
    success, probability, at = _least(_of(tables["scan"], name), method)
    nothing, _, _ = _least(_of(tables["scan"], name), UNSTEERED)
    searched = _where(_of(tables["controls"], name), method)
    control = _strongest(searched) if len(searched) else None
    kl, small = _side_effect(spec, _where(_of(tables["side_effects"], name), method))
    played = _of(tables["episodes"], name)
    seen = None
    if method in set(played["method"]):
        seen = shown(spec, goal, played, method)
    conditions = {
        "success": success >= spec.min_success,
        "random vectors": None if control is None else success > max(nothing, control[0]),
        "side effect": small,
    }
    if goal.pairs is None or goal.play is Play.looks_back:
        conditions["episodes"] = None if seen is None else seen.agrees
    asks, like = _asks(spec, _where(_of(tables["asks"], name), method))
    return Judged(
        method=method, site=str(row["site"]), alpha=float(row["alpha"]), success=success,
        probability=probability, at=at, kl=kl, control=control, conditions=conditions, shown=seen,
        asks=asks, like=like, score=float(row["score"]),
        moved=float(row["moved"]) > spec.tolerance,
    )  # fmt: skip


def _least(scan: pd.DataFrame, method: str) -> tuple[float, float, float]:
    """A method's success and probability where each is least, and at which reward-to-go success is."""
    rows = scan[(scan["method"] == method) & scan["chosen"]]
    row = rows.loc[rows["success"].idxmin()]
    return float(row["success"]), float(rows["probability"].min()), float(row["reward_to_go"])


def _strongest(searched: pd.DataFrame) -> tuple[float, float]:
    """A high quantile of random searches by success, and the probability that goes with it."""
    pairs = sorted(zip(searched["success"], searched["probability"], strict=True))
    success, probability = pairs[math.ceil(STRONGEST * (len(pairs) - 1))]
    return float(success), float(probability)


def _side_effect(spec: SteeringSpec, rows: pd.DataFrame) -> tuple[Estimate | None, bool | None]:
    """The largest of the side effects, and whether all are small: declared ones, and in demonstrations."""
    rows = rows.loc[rows["chosen"]] if len(rows) else rows
    found = [
        Estimate(row["kl"], row["low"], row["high"], row["n"], row["interval"])
        for _, row in rows.iterrows()
    ]
    decided = [Relation.AT_MOST.decides(one, spec.max_side_effect) for one in found]
    small = False if False in decided else None if None in decided else True
    return max(found, key=lambda one: one.value, default=None), small


def _asks(spec: SteeringSpec, rows: pd.DataFrame) -> tuple[bool, str]:
    """Whether an edit asks for another reward-to-go in windows of any, and the numbers where it is most so.

    A random vector must not be as much like a request: else the likeness says nothing.
    """
    if not len(rows):
        return False, ""
    alike = rows[
        (rows["remaining"] <= np.minimum(spec.max_remaining, rows["random_least"]))
        & (rows["kl"] <= spec.max_side_effect)
    ]
    pool = alike if len(alike) else rows
    row = pool.loc[pool["remaining"].idxmin()]
    words = (
        f"asked for {row['asked']:g} in the place of {row['reward_to_go']:g} the model does the same but for "
        f"{row['remaining']:.2f} of the stream's squared change (random vectors "
        f"{row['random_remaining']:.2f}; cosine {row['cosine']:.2f}) and {abs(row['kl']):.3f} nats "
        f"({row['windows']} windows)"
    )
    return bool(len(alike)), words


def _claim(spec: SteeringSpec, goal: Goal, name: str, verdict: Verdict, evidence: str) -> Claim:
    return Claim(
        id=name,
        text=goal.claim,
        criterion=f"held-out success at least {spec.min_success:g} at every reward-to-go and above "
        f"{STRONGEST:.0%} of {spec.controls} random searches, side effect at most "
        f"{spec.max_side_effect:g} nats, and episodes that agree; by something else than another "
        "reward-to-go, else it depends on that",
        evidence=evidence,
        verdict=verdict,
        about=About.MODEL if goal.like is None else About.REWARD_TO_GO,
    )


def _verdict(
    spec: SteeringSpec, goal: Goal, judged: list[Judged], unsteered: float, before: Shown
) -> tuple[Verdict, str]:
    """The verdict on a goal and the numbers behind it."""
    if unsteered >= spec.min_success:
        reason = f"unsteered success is at least {unsteered:.2f} already"
        return Verdict.NOT_APPLICABLE, f"nothing to steer: {reason}"
    if before.steerable is False:
        return Verdict.NOT_APPLICABLE, f"nothing to steer: {before.reason}"
    if before.steerable is None:
        return Verdict.NOT_DECIDED, f"open whether there is something to steer: {before.reason}"
    followed = [one for one in judged if one.control is not None]
    if not followed:
        return Verdict.NOT_APPLICABLE, "no method can be used on this model"
    if not any(one.moved for one in followed):
        names = ", ".join(f"{_words(one)} at {one.site}" for one in followed)
        return Verdict.NOT_ESTABLISHED, f"nothing was steered: {names} changes no probability"
    ways = [one for one in followed if one.verdict is Verdict.CONFIRMED]
    inside = [one for one in ways if not one.asks]
    undecided = [one for one in followed if one.verdict is Verdict.NOT_DECIDED]
    first = [*inside, *ways, *undecided, *followed][0]
    beside = [f"{_words(one)} {one.success:.2f}" for one in judged if one is not first]
    evidence = ", ".join([_numbers(spec, goal, first, unsteered, before), *beside])
    if inside:
        kind = f"by something else than another reward-to-go: {first.like}"
        return Verdict.CONFIRMED, f"{evidence}; {kind if first.like else 'none is read'}"
    if ways:
        return Verdict.DEPENDS, f"{evidence}; by asking for another reward-to-go: {first.like}"
    lacks = [what for what, holds in first.conditions.items() if holds is not True]
    if undecided:
        return Verdict.NOT_DECIDED, f"{evidence}; open: {', '.join(lacks)}"
    if first.conditions["success"] and first.conditions["random vectors"] is False:
        return Verdict.NOT_ESTABLISHED, f"{evidence}; random vectors do as well"
    return Verdict.NOT_CONFIRMED, f"{evidence}; it fails by: {', '.join(lacks)}"


def _numbers(spec: SteeringSpec, goal: Goal, one: Judged, unsteered: float, before: Shown) -> str:
    """What a method did, in words."""
    assert one.control is not None
    words = (
        f"{_words(one)} at {one.site} x{one.alpha:g}: success {one.success:.2f} at reward-to-go "
        f"{one.at:g}, where it is least (unsteered {unsteered:.2f}), probability at least "
        f"{one.probability:.2f} ({STRONGEST:.0%} of random searches have at most success "
        f"{one.control[0]:.2f}, probability {one.control[1]:.2f})"
    )
    if one.kl is not None:
        words += f", KL at most {one.kl}"
    if one.shown is not None:
        what = "looks back" if goal.play is Play.looks_back else f"return at {spec.low:g}"
        words += f", {what} {one.shown.value} (unsteered {before.value})"
    return words


def _words(one: Judged) -> str:
    return one.method.replace("_", " ")


def _of(table: pd.DataFrame, goal: str) -> pd.DataFrame:
    """A goal's rows."""
    return table.loc[table["goal"] == goal] if len(table) else table


def _where(table: pd.DataFrame, method: str) -> pd.DataFrame:
    """A method's rows of a goal's table."""
    return table.loc[table["method"] == method] if len(table) else table
