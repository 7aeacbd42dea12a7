"""What episodes show of a goal: the return, or that the agent looks back, with its uncertainty.

Layouts are all that there are and no sample: an episode number's mean over them is one observation, for the
same number meets the same random numbers whatever steers it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dtx.analysis.core.result import Relation, Verdict
from dtx.analysis.steering.spec import RANDOM, UNSTEERED, Goal, Play, SteeringSpec
from dtx.statistics import Estimate, mean_estimate, share_estimate

LEAST_GAP = 0.05
"""2026-11-28: of the return asked for much and for little, under which no share of it can be measured."""


@dataclass(frozen=True)
class Shown:
    """What the episodes of a method show.

    Attributes:
        value: Return at the low target where something shall change; or share of episodes that look back,
            at the target where it is least.
        agrees: Whether it is what the goal wants; None if the intervals do not tell.
        steerable: Whether there is something to steer: return depends on the target, or not all episodes
            look back. None if the intervals do not tell.
        reason: The numbers behind ``steerable``.
    """

    value: Estimate
    agrees: bool | None
    steerable: bool | None
    reason: str


def shown(spec: SteeringSpec, goal: Goal, episodes: pd.DataFrame, method: str) -> Shown:
    """Judge the sampled episodes of a method.

    For the return: at the low target, in the layouts that shall change, it must come by ``min_gap_closed``
    of the way to the unsteered one at the high target, and above the random vector's; nowhere else, and at
    the high target nowhere, may it move by more than the rest of that way. For looking back: at each target
    the share must be at least ``min_success``, and above the unsteered and the random vector's.

    Args:
        spec: Targets and thresholds.
        goal: Where something shall change.
        episodes: Of the goal, one row each.
        method: Its name; ``unsteered`` for the value and whether there is something to steer.
    """
    sampled = episodes[~episodes["greedy"]]
    if goal.play is Play.looks_back:
        return _looks_back(spec, sampled, method)
    return _return(spec, goal, sampled, method)


def inside(goal: Goal, rows: pd.DataFrame) -> np.ndarray:
    """Episodes in layouts where something shall change, (rows,) bool."""
    named = {layout for place in goal.change for layout in place.layouts}
    if not named or any(not place.layouts for place in goal.change):
        return np.full(len(rows), True)
    return np.isin(rows["layout"].to_numpy(), sorted(named))


def _return(spec: SteeringSpec, goal: Goal, sampled: pd.DataFrame, method: str) -> Shown:
    def mean(method: str, target: float, within: bool = True) -> np.ndarray:
        rows = sampled[(sampled["method"] == method) & (sampled["target"] == target)]
        rows = rows[inside(goal, rows) == within]
        return np.asarray(rows.groupby("episode")["return"].mean())

    value = mean_estimate(mean(method, spec.low))
    if goal.pairs is not None:  # it wants what a clean run does, which no target gives
        return Shown(value, None, True, "")
    own_low, own_high = mean(UNSTEERED, spec.low), mean(UNSTEERED, spec.high)
    gap = mean_estimate(own_high - own_low)
    steerable = Relation.ABOVE.decides(gap, LEAST_GAP)
    reason = f"return changes by {gap} from reward-to-go {spec.low:g} to {spec.high:g}"

    def conditions() -> Iterator[bool | None]:
        way = own_high - own_low
        closed = mean(method, spec.low) - own_low - spec.min_gap_closed * way
        yield Relation.AT_LEAST.decides(mean_estimate(closed), 0)
        if len(random := mean(RANDOM + method, spec.low)):
            yield Relation.ABOVE.decides(mean_estimate(mean(method, spec.low) - random), 0)
        for target, within in ((spec.low, False), (spec.high, True), (spec.high, False)):
            moved = mean(method, target, within) - mean(UNSTEERED, target, within)
            for sign in (1, -1) if len(moved) else ():
                beyond = sign * moved - (1 - spec.min_gap_closed) * way
                yield Relation.AT_MOST.decides(mean_estimate(beyond), 0)

    return Shown(value, _all(conditions()), steerable, reason)


def _looks_back(spec: SteeringSpec, sampled: pd.DataFrame, method: str) -> Shown:
    def share(method: str, target: float) -> Estimate:
        rows = sampled[(sampled["method"] == method) & (sampled["target"] == target)]
        return share_estimate(int(rows["looks_back"].sum()), len(rows))

    targets = (spec.low, spec.high)
    least = min((share(method, target) for target in targets), key=lambda one: one.value)
    conditions = []
    for target in targets:
        one = share(method, target)
        conditions.append(Relation.AT_LEAST.decides(one, spec.min_success))
        others = [share(other, target) for other in (UNSTEERED, RANDOM + method)]
        conditions += [Relation.ABOVE.decides(one, other) for other in others if other.n]
    own = [Relation.AT_LEAST.decides(share(UNSTEERED, t), spec.min_success) for t in targets]
    steerable = True if False in own else None if None in own else False
    unsteered = "; ".join(f"{share(UNSTEERED, t)} at {t:g}" for t in targets)
    return Shown(least, _all(conditions), steerable, f"unsteered episodes look back, {unsteered}")


def _all(conditions: Iterator[bool | None] | list[bool | None]) -> bool | None:
    verdict = Verdict.judge(conditions)
    return None if verdict is Verdict.NOT_DECIDED else verdict is Verdict.CONFIRMED
