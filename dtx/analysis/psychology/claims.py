"""From B2's tables to headline numbers and to verdicts on the MemoryDT study's claims."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dtx.analysis.core.claims import Claim, verdict
from dtx.analysis.psychology import Psychology
from dtx.analysis.psychology.compute import TRAINED, Results
from dtx.analysis.psychology.states import FORWARD
from dtx.statistics import bootstrap

TOLERANCE = 1e-9
MAJORITY = 0.5


def judge(
    stage: Psychology, results: Results
) -> tuple[dict[str, float | None], list[Claim], list[str]]:
    """Headline, claims, and what failed of the identities and the control."""
    states, low, high = results.states, stage.low, stage.high
    mine = states[states.model == TRAINED]
    at = {t: mine[mine.target == t] for t in (low, high)}
    squares = decision_squares(stage, results.divergence, TRAINED, high)
    others = [name for name in states.model.unique() if name != TRAINED]
    chance = [decision_squares(stage, results.divergence, n, high)["squares"] for n in others]
    routine = _routine(stage, results)
    cached = _cached(stage, results)
    headline: dict[str, float | None] = {
        "psychology/identity_error": results.error,
        "psychology/distinct_inputs": results.distinct,
        "psychology/poses": len(results.poses.pose),
        "psychology/decision_squares": squares["squares"],
        "psychology/decision_poses": squares["poses"],
        "psychology/decision_squares_before_turn": squares["before_turn"],
        "psychology/untrained_decision_squares": float(np.mean(chance)),
        **{f"psychology/{k}": v for k, v in {**routine, **cached}.items()},
    }
    for name, part in (("low", at[low]), ("high", at[high])):
        start = part[part.steps == 0]
        headline[f"psychology/first_action_confidence_{name}"] = float(start.confidence.mean())
        headline[f"psychology/non_kinetic_{name}"] = float(part.non_kinetic.mean())
        for place, rows in (("on", part[part.on_routine]), ("off", part[~part.on_routine])):
            headline[f"psychology/entropy_{name}_{place}"] = float(rows.entropy.mean())
    untrained = states[(states.model != TRAINED) & (states.target == high)]
    headline["psychology/untrained_entropy"] = float(untrained.entropy.mean())
    headline["psychology/untrained_non_kinetic"] = float(untrained.non_kinetic.mean())
    back, back_said = _look_back(stage, results)
    headline |= back
    claims = [
        _routine_claim(stage, routine),
        _square_claim(stage, squares, results.divergence),
        _cached_claim(stage, cached),
        _diffuse_claim(stage, at),
        _non_kinetic_claim(stage, at, states),
        back_said,
    ]
    failed = (
        [] if results.error < TOLERANCE else [f"identities hold within {results.error:.1g} only"]
    )
    return headline, claims, failed


def decision_squares(
    stage: Psychology, divergence: pd.DataFrame, model: str, target: float
) -> dict[str, Any]:
    """Poses over the threshold, their cells, and the cells among those before the routine's turn."""
    mine = divergence[(divergence.model == model) & (divergence.target == target)]
    over = mine[mine.divergence > stage.threshold]
    cells = sorted(set(zip(over.x.tolist(), over.y.tolist(), strict=True)))
    before = over[over.before_turn]
    return {
        "poses": len(over),
        "squares": len(cells),
        "cells": cells,
        "before_turn": len(before[["x", "y"]].drop_duplicates()),
    }


def _routine(stage: Psychology, results: Results) -> dict[str, float]:
    """How the policy follows the routine at its states: greedily, and in probability."""
    env: Any = stage.env
    found = {}
    for name, target in (("low", stage.low), ("high", stage.high)):
        chances, greedy = [], []
        for layout in range(len(env.layouts())):
            actions = env.routine(layout)
            places = [results.poses.after(actions[:step]) for step in range(len(actions))]
            known = [(p, a) for p, a in zip(places, actions, strict=True) if p is not None]
            policy = results.probability[stage.targets.index(target), layout]
            chances.append([policy[p, a] for p, a in known])
            greedy.append(all(policy[p].argmax() == a for p, a in known))
        found[f"routine_share_{name}"] = float(np.mean(greedy))
        found[f"routine_probability_{name}"] = float(np.mean([np.mean(c) for c in chances]))
    return found


def _routine_claim(stage: Psychology, n: dict[str, float]) -> Claim:
    share = n["routine_share_high"]
    return Claim(
        claim="a set routine",
        wanted=f"at {stage.high:g} the most probable action is the routine's at all its states, "
        "in every layout",
        found=f"{share:.0%} of layouts at {stage.high:g}, {n['routine_share_low']:.0%} at {stage.low:g}; "
        f"mean probability {n['routine_probability_high']:.2f} and {n['routine_probability_low']:.2f}",
        verdict=verdict(share == 1, partly=share > 0),
    )


def _square_claim(stage: Psychology, squares: dict[str, Any], divergence: pd.DataFrame) -> Claim:
    """One cell, and there more divergence than in any untrained model."""
    at_high = divergence[divergence.target == stage.high]
    mine = at_high[at_high.model == TRAINED]
    top = mine.loc[mine.divergence.idxmax()]
    there = at_high[(at_high.model != TRAINED)].set_index(["x", "y", "direction"]).sort_index()
    chance = float(there.loc[(top.x, top.y, top.direction)].divergence.max())
    ahead = top.divergence > chance
    return Claim(
        claim="one decision square",
        wanted=f"at {stage.high:g} the poses over {stage.threshold:g} nats lie on one cell, and "
        "diverge more there than untrained models",
        found=f"{squares['squares']} ({squares['poses']} poses), before the turn "
        f"{squares['before_turn']}; at most {top.divergence:.2f} nats, untrained there {chance:.2f}",
        verdict=verdict(
            squares["squares"] == 1 and ahead, partly=squares["before_turn"] == 1 and bool(ahead)
        ),
    )


def _cached(stage: Psychology, results: Results) -> dict[str, float]:
    """P(forward) after a turn at the decision square that was forced to the right or the wrong side."""
    env: Any = stage.env
    found = {}
    for name, turns in (("right", env.correct_turn), ("wrong", env.wrong_turn)):
        values = []
        for layout, turn in enumerate(turns(np.arange(len(env.layouts())))):
            place = results.poses.after([*env.routine(layout)[: env.decision_step], int(turn)])
            if place is not None:
                policy = results.probability[stage.targets.index(stage.high), layout, place]
                values.append(policy[FORWARD])
        found[f"forward_after_{name}_turn"] = float(np.mean(values)) if values else float("nan")
        found[f"walks_on_after_{name}_turn"] = (
            float(np.mean(np.array(values) > MAJORITY)) if values else float("nan")
        )
    return found


def _cached_claim(stage: Psychology, n: dict[str, float]) -> Claim:
    share = n["walks_on_after_wrong_turn"]
    return Claim(
        claim="the decision is cached in the turn",
        wanted=f"at {stage.high:g}, P(forward) > {MAJORITY:g} after a turn forced to the wrong side, "
        "in every layout",
        found=f"P(forward) {n['forward_after_wrong_turn']:.2f} after the wrong turn "
        f"({share:.0%} of layouts), {n['forward_after_right_turn']:.2f} after the right one",
        verdict=verdict(share == 1, partly=share > 0),
    )


def _difference(stage: Psychology, one: np.ndarray, two: np.ndarray) -> tuple[float, float, float]:
    """Mean of one minus two over the same states, with its interval."""
    difference = one - two
    return (float(difference.mean()), *bootstrap(difference, stage.resamples, stage.seed))


def _diffuse_claim(stage: Psychology, at: dict[float, pd.DataFrame]) -> Claim:
    low, high = at[stage.low], at[stage.high]
    off = ~low.on_routine.to_numpy()
    mean, begin, end = _difference(stage, low.entropy.to_numpy()[off], high.entropy.to_numpy()[off])
    on_low, off_low = low.entropy[~off].mean(), low.entropy[off].mean()
    return Claim(
        claim=f"diffuse off the routine at {stage.low:g}",
        wanted=f"entropy off the routine above that at {stage.high:g}, and above that on the routine",
        found=f"{off_low:.2f} nats off, {on_low:.2f} on; {mean:+.2f} [{begin:.2f}, {end:.2f}] against "
        f"{stage.high:g}",
        verdict=verdict(begin > 0 and off_low > on_low, partly=begin > 0 or off_low > on_low),
    )


def _non_kinetic_claim(
    stage: Psychology, at: dict[float, pd.DataFrame], states: pd.DataFrame
) -> Claim:
    low, high = (at[t].non_kinetic.to_numpy() for t in (stage.low, stage.high))
    mean, begin, end = _difference(stage, low, high)
    untrained = states[states.model != TRAINED].groupby(["model", "target"]).non_kinetic.mean()
    moved = untrained.unstack("target")
    chance = float((moved[stage.low] - moved[stage.high]).abs().max())
    return Claim(
        claim=f"mass on non-kinetic actions at {stage.low:g}",
        wanted=f"more than at {stage.high:g}: the interval of the difference over states is above that of "
        "any untrained model",
        found=f"{low.mean():.3f} against {high.mean():.3f}, {mean:+.3f} [{begin:.3f}, {end:.3f}], untrained "
        f"at most {chance:.3f}",
        verdict=verdict(begin > chance, partly=begin > 0 and mean > chance),
    )


def _look_back(stage: Psychology, results: Results) -> tuple[dict[str, float | None], Claim]:
    """Look-backs at the high target by layout; and the turn there at the low target."""
    env: Any = stage.env
    names, there = env.layouts(), 0  # the instruction is a key, and the matching key is up
    share = results.play[results.play.target == stage.high].set_index("layout").looks_back
    place = results.poses.after(env.routine(there)[: env.decision_step])
    turn = int(env.wrong_turn([there])[0])
    value = (
        float(results.probability[stage.targets.index(stage.low), there, place, turn])
        if place is not None
        else float("nan")
    )
    above = [name for name in names if share[name] > MAJORITY]
    headline: dict[str, float | None] = {
        f"psychology/look_back_{name.replace('/', '_')}": float(share[name]) for name in names
    }
    headline["psychology/wrong_turn_low_first_layout"] = value
    said = ", ".join(f"{name} {share[name]:.2f}" for name in names)
    return headline, Claim(
        claim=f"looks back at {stage.high:g} in {names[there]} alone",
        wanted=f"over half of the sampled episodes face back there and nowhere else (the study; at "
        f"{stage.low:g} it turns right with .88 there)",
        found=f"{said}; wrong turn there at {stage.low:g}: {value:.2f}",
        verdict=verdict(above == [names[there]], partly=bool(above)),
    )
