"""From played episodes to numbers with their intervals, and from those to the verdicts.

Letters: r targets, n episodes of one target. An episode has the same world and random numbers at every
target, so that episodes, not plays, are the independent observations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from dtx.analysis.calibration.spec import (
    CLONE,
    DT,
    FAILING,
    RANDOM,
    RECORDED,
    SHUFFLED,
    TRAINED_ON,
    UNTRAINED,
    CalibrationSpec,
    Criteria,
)
from dtx.analysis.core.result import About, Claim, Control, Relation, Verdict
from dtx.statistics import (
    FEW,
    RESAMPLES,
    Estimate,
    difference_estimate,
    enumerated,
    mean_estimate,
    share_estimate,
)

RETURNS = (0.0, 1.0)
"""Between which the returns of gridworlds with a single reward lie, whatever happens."""
Returns = Mapping[str, np.ndarray]
"""Returns (r, n) of each model, the targets in the spec's order."""


def measure(
    spec: CalibrationSpec,
    curve: pd.DataFrame,
    returns: Returns,
    decision: pd.DataFrame,
    greedy_wrong: np.ndarray | None,
) -> dict[str, Estimate]:
    """The numbers that the criteria are about, with their intervals; what was not measured is left out.

    Args:
        spec: Says which targets are high and low.
        curve: See :func:`dtx.analysis.calibration.compute.compute`. decision: See there.
        returns: Of every model that played.
        greedy_wrong: (layouts,) bool, whether greedy play at the low target ends at the wrong object;
            None where the environment has no layouts.
    """
    wanted, of_model = spec.criteria, returns[DT]
    place = {target: i for i, target in enumerate(spec.targets)}
    low, high = place[wanted.low], place[wanted.high]
    at_high = curve[(curve.model == DT) & (curve.target == wanted.high)].iloc[0]
    successes = round(at_high.success * at_high.episodes)
    found = {
        "success_high": share_estimate(successes, int(at_high.episodes)),
        "return_high": mean_estimate(of_model[high], bounds=_bounds(of_model)),
        "return_low": mean_estimate(of_model[low], bounds=_bounds(of_model)),
        "response": mean_estimate(of_model[high] - of_model[low]),
    }
    supported = curve[curve.model == DT].set_index("target").supported
    rows = [i for i, target in enumerate(spec.targets) if supported[target]]
    if len(rows) > 1:
        found |= _over_targets(np.array(spec.targets)[rows], of_model[rows])
    if FAILING in returns:
        failing = returns[FAILING][0]
        found["failing_return"] = mean_estimate(failing, bounds=_bounds(failing))
        found["above_failing"] = difference_estimate(
            of_model[low], failing, bounds=_bounds(of_model, failing)
        )
    if SHUFFLED in returns:
        shuffled = returns[SHUFFLED]
        found["shuffled_response"] = mean_estimate(shuffled[high] - shuffled[low])
    chance = returns[UNTRAINED].mean(0), returns[RANDOM][0]
    found["from_chance"] = difference_estimate(*chance, bounds=_bounds(*chance))
    if greedy_wrong is not None:
        found["greedy_wrong_layouts"] = enumerated(greedy_wrong.mean(), len(greedy_wrong))
    return found | _at_decision(wanted, decision)


def _over_targets(targets: np.ndarray, returns: np.ndarray) -> dict[str, Estimate]:
    """Rank correlation and mean distance over the supported targets (r,) of returns (r, n).

    Percentile bootstrap of whole episodes. SciPy's BCa has no answer where all resamples have the same order.
    """
    n = returns.shape[1]
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n
    means = np.concatenate([returns.mean(1)[None], drawn @ returns.T])
    order = targets.argsort().argsort() - (len(targets) - 1) / 2
    ranks = rankdata(means.round(12), axis=1) - (len(targets) + 1) / 2
    spread = np.sqrt((ranks**2).sum(1) * (order**2).sum())
    numbers = {
        "spearman": np.divide(ranks @ order, spread, out=np.zeros(len(ranks)), where=spread > 0),
        "mae": np.abs(means - targets).mean(1),
    }
    found = {}
    for name, (value, *resampled) in ((k, v.tolist()) for k, v in numbers.items()):
        if n < FEW:
            found[name] = Estimate(value, math.nan, math.nan, n, f"no interval, {n} episodes")
            continue
        low, high = np.quantile(resampled, [0.025, 0.975])
        kind = f"bootstrap over {n} episodes"
        found[name] = Estimate(value, float(low), float(high), n, kind)
    return found


def _at_decision(wanted: Criteria, decision: pd.DataFrame) -> dict[str, Estimate]:
    """Shares of the turns at the low target, mean over layouts. They are exact: nothing is played."""
    low = decision[decision.target == wanted.low]
    found = {}
    for source, name in ((DT, "junction"), (RECORDED, "demonstrated"), (TRAINED_ON, "trained_on")):
        part = low[low.source == source]
        if len(part):
            for turn in ("wrong", "right"):
                found[f"{name}_{turn}_low"] = enumerated(part[f"{turn}_turn"].mean(), len(part))
    if {"junction_wrong_low", "demonstrated_wrong_low"} <= set(found):
        distances = [
            abs(found[f"junction_{turn}_low"].value - found[f"demonstrated_{turn}_low"].value)
            for turn in ("wrong", "right")
        ]
        n = found["junction_wrong_low"].n
        found["junction_distance_low"] = enumerated(max(distances), n)
    return found


def judge(wanted: Criteria, found: Mapping[str, Estimate]) -> pd.DataFrame:
    """Hold the numbers against the criteria of "steered" and of "calibrated".

    Args:
        wanted: The criteria.
        found: As :func:`measure` gives them; a criterion on what was not measured is not decided.

    Returns:
        One row a criterion: claim, criterion, value, low, high, n, interval, wanted (in words), state ("met",
        "not met" or "not decided": the interval includes the limit), met (bool).
    """
    at_high, at_low = f"at target {wanted.high:g}", f"at target {wanted.low:g}"
    least, most = Relation.AT_LEAST, Relation.AT_MOST
    steered, calibrated = "steered", "calibrated"
    rows = [
        (steered, f"success {at_high}", "success_high", least, wanted.min_success),
        (
            steered,
            f"return {at_low} above that of the failing demonstrations",
            "above_failing",
            most,
            wanted.max_above_failing,
        ),
        (steered, "Spearman over the supported targets", "spearman", least, wanted.min_spearman),
        (calibrated, "mean distance of return and target", "mae", most, wanted.max_distance),
    ]
    if "greedy_wrong_layouts" in found:
        rows += [
            (
                steered,
                f"layouts in which greedy play {at_low} ends at the wrong object",
                "greedy_wrong_layouts",
                least,
                wanted.min_wrong_layouts,
            ),
            (
                steered,
                f"P(turn) at the decision {at_low}, distance from the demonstrations",
                "junction_distance_low",
                most,
                wanted.max_from_demonstrations,
            ),
        ]
    table = []
    for claim, criterion, name, relation, limit in rows:
        value = found.get(name, Estimate(math.nan, math.nan, math.nan, 0, "not measured"))
        decided = relation.decides(value, limit)
        state = "not decided" if decided is None else "met" if decided else "not met"
        table.append(
            {
                "claim": claim,
                "criterion": criterion,
                "value": value.value,
                **value.columns(),
                "wanted": f"{relation.value} {limit:g}",
                "state": state,
                "met": state == "met",
            }
        )
    return pd.DataFrame(table)


def controls(wanted: Criteria, found: Mapping[str, Estimate]) -> list[Control]:
    """What could have failed if the model were not steered, or if the instrument saw steering anywhere."""
    chance = found["from_chance"]
    # The distance from chance in either direction: the end of the interval that is farther from 0 counts.
    farthest = max(abs(chance.low), abs(chance.high))
    size = Estimate(abs(chance.value), 0.0, farthest, chance.n, chance.kind)
    made = [
        Control.of(
            "distance of the untrained model's mean return from a uniformly random policy's",
            size,
            Relation.AT_MOST,
            wanted.max_from_chance,
        )
    ]
    if "shuffled_response" in found:
        made.append(
            Control.of(
                f"difference of return between targets {wanted.high:g} and {wanted.low:g}, against that of "
                "the model trained with shuffled returns",
                found["response"],
                Relation.ABOVE,
                found["shuffled_response"],
            )
        )
    return made


def claims(wanted: Criteria, criteria: pd.DataFrame) -> list[Claim]:
    """Whether the model is steered, and whether it is calibrated, from the table of :func:`judge`."""
    texts = {
        "steered": "the model is steered by reward-to-go",
        "calibrated": "the model's return equals its target",
    }
    made = []
    for name, text in texts.items():
        # Who is calibrated is steered: all criteria count.
        rows = criteria if name == "calibrated" else criteria[criteria.claim == name]
        open_rows = rows[~rows.met]
        values = [
            f"{r.criterion}: {_words(r)}, {r.state}: {r.wanted}" for r in open_rows.itertuples()
        ]
        states = rows.state.map({"met": True, "not met": False, "not decided": None})
        made.append(
            Claim(
                id=name,
                text=text,
                criterion="; ".join(f"{r.criterion} {r.wanted}" for r in rows.itertuples()),
                evidence=f"{int(rows.met.sum())} of {len(rows)} criteria met"
                + (f"; {'; '.join(values)}" if values else ""),
                verdict=Verdict.judge(list(states)),
                about=About.REWARD_TO_GO,
            )
        )
    return made


def clone_spread(returns: Returns) -> float:
    """Largest difference between targets of a behaviour clone's mean return; 0 exactly, or no number."""
    if CLONE not in returns:
        return math.nan
    return float(np.ptp(returns[CLONE].mean(1)))


def _bounds(*returns: np.ndarray) -> tuple[float, float] | None:
    """Bounds of the returns, where they keep them; there are tasks with penalties or several rewards."""
    values = np.concatenate([r.ravel() for r in returns])
    inside = len(values) and values.min() >= RETURNS[0] and values.max() <= RETURNS[1]
    return RETURNS if inside else None


def _words(row) -> str:
    return (
        f"{row.value:.3g} [{row.low:.3g}, {row.high:.3g}]"
        if row.low != row.high
        else f"{row.value:.3g}"
    )
