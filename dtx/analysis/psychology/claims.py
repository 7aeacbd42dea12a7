"""From the tables to metrics, and to verdicts on the MemoryDT study's claims."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dtx.analysis.core.result import About, Claim, Verdict
from dtx.analysis.psychology.measure import PolicyMeasures
from dtx.analysis.psychology.poses import FORWARD
from dtx.analysis.psychology.spec import TRAINED, PsychologySpec
from dtx.env.decision import Decision
from dtx.statistics import bootstrap

MAJORITY = 0.5


def judge(
    spec: PsychologySpec, decision: Decision, measured: PolicyMeasures
) -> tuple[dict[str, float | None], list[Claim]]:
    """Metrics and claims."""
    states, low, high = measured.states, spec.low, spec.high
    trained = states[states.model == TRAINED]
    at = {t: trained[trained.target == t] for t in (low, high)}
    squares = decision_squares(spec, measured.divergence, TRAINED, high)
    others = [name for name in states.model.unique() if name != TRAINED]
    untrained = [decision_squares(spec, measured.divergence, n, high) for n in others]
    followed = routine(spec, decision, measured)
    after = cached(spec, decision, measured)
    metrics: dict[str, float | None] = {
        "poses": len(measured.poses.pose),
        "decision_squares": len(squares.cells),
        "decision_poses": squares.poses,
        "decision_squares_before_turn": squares.before_turn,
        "untrained_decision_squares": float(np.mean([len(s.cells) for s in untrained])),
        **followed,
        **after,
    }
    for name, part in (("low", at[low]), ("high", at[high])):
        start = part[part.steps == 0]
        metrics[f"first_action_confidence_{name}"] = float(start.confidence.mean())
        metrics[f"non_kinetic_{name}"] = float(part.non_kinetic.mean())
        for place, rows in (("on", part[part.on_routine]), ("off", part[~part.on_routine])):
            metrics[f"entropy_{name}_{place}"] = float(rows.entropy.mean())
    rest = states[(states.model != TRAINED) & (states.target == high)]
    metrics["untrained_entropy"] = float(rest.entropy.mean())
    metrics["untrained_non_kinetic"] = float(rest.non_kinetic.mean())
    back, back_claim = _look_back(spec, decision, measured)
    claims = [
        _routine_claim(spec, followed),
        _square_claim(spec, squares, measured.divergence),
        _cached_claim(spec, after),
        _diffuse_claim(spec, at),
        _non_kinetic_claim(spec, at, states),
        back_claim,
    ]
    return metrics | back, claims


@dataclass(frozen=True)
class Squares:
    """Where a model decides.

    Attributes:
        poses: How many are over the threshold. cells: Of these. before_turn: How many of the cells have
            one before the routine's turn.
    """

    poses: int
    cells: list[tuple[int, int]]
    before_turn: int


def decision_squares(
    spec: PsychologySpec, divergence: pd.DataFrame, model: str, target: float
) -> Squares:
    """The poses over the threshold, and their cells."""
    rows = divergence[(divergence.model == model) & (divergence.target == target)]
    over = rows[rows.divergence > spec.threshold]
    before = over[over.before_turn]
    return Squares(
        poses=len(over),
        cells=sorted(set(zip(over.x.tolist(), over.y.tolist(), strict=True))),
        before_turn=len(before[["x", "y"]].drop_duplicates()),
    )


def routine(spec: PsychologySpec, decision: Decision, measured: PolicyMeasures) -> dict[str, float]:
    """How the policy follows the routine at its states: greedily, and in probability."""
    metrics = {}
    for name, target in (("low", spec.low), ("high", spec.high)):
        chances, greedy = [], []
        for layout in range(len(decision.layouts)):
            actions = decision.routine(layout)
            places = [measured.poses.after(actions[:step]) for step in range(len(actions))]
            known = [(p, a) for p, a in zip(places, actions, strict=True) if p is not None]
            policy = measured.probability[spec.targets.index(target), layout]
            chances.append([policy[p, a] for p, a in known])
            greedy.append(all(policy[p].argmax() == a for p, a in known))
        metrics[f"routine_share_{name}"] = float(np.mean(greedy))
        metrics[f"routine_probability_{name}"] = float(np.mean([np.mean(c) for c in chances]))
    return metrics


def _routine_claim(spec: PsychologySpec, n: dict[str, float]) -> Claim:
    share = n["routine_share_high"]
    return Claim(
        id="set_routine",
        text="a set routine",
        criterion=f"at {spec.high:g} the most probable action is the routine's at all its states, "
        "in every layout",
        evidence=f"{share:.0%} of layouts at {spec.high:g}, {n['routine_share_low']:.0%} at {spec.low:g}; "
        f"mean probability {n['routine_probability_high']:.2f} and {n['routine_probability_low']:.2f}",
        verdict=Verdict.of(share == 1, partly=share > 0),
    )


def _square_claim(spec: PsychologySpec, squares: Squares, divergence: pd.DataFrame) -> Claim:
    """One cell, and there more divergence than in any untrained model."""
    at_high = divergence[divergence.target == spec.high]
    trained = at_high[at_high.model == TRAINED]
    top = trained.loc[trained.divergence.idxmax()]
    there = at_high[(at_high.model != TRAINED)].set_index(["x", "y", "direction"]).sort_index()
    chance = float(there.loc[(top.x, top.y, top.direction)].divergence.max())
    ahead, before = bool(top.divergence > chance), squares.before_turn
    return Claim(
        id="one_decision_square",
        text="one decision square",
        criterion=f"at {spec.high:g} the poses over {spec.threshold:g} nats lie on one cell, and "
        "diverge more there than untrained models",
        evidence=f"{len(squares.cells)} ({squares.poses} poses), before the turn "
        f"{before}; at most {top.divergence:.2f} nats, untrained there {chance:.2f}",
        verdict=Verdict.of(len(squares.cells) == 1 and ahead, partly=before == 1 and ahead),
    )


def cached(spec: PsychologySpec, decision: Decision, measured: PolicyMeasures) -> dict[str, float]:
    """P(forward) after a turn at the decision square that was forced to the right or the wrong side."""
    metrics = {}
    right, wrong = decision.turns(range(len(decision.layouts)))
    for name, turns in (("right", right), ("wrong", wrong)):
        values = []
        for layout, turn in enumerate(turns):
            way = decision.routine(layout)[: decision.step]
            place = measured.poses.after([*way, int(turn)])
            if place is not None:
                policy = measured.probability[spec.targets.index(spec.high), layout, place]
                values.append(policy[FORWARD])
        metrics[f"forward_after_{name}_turn"] = float(np.mean(values)) if values else float("nan")
        metrics[f"walks_on_after_{name}_turn"] = (
            float(np.mean(np.array(values) > MAJORITY)) if values else float("nan")
        )
    return metrics


def _cached_claim(spec: PsychologySpec, n: dict[str, float]) -> Claim:
    share = n["walks_on_after_wrong_turn"]
    return Claim(
        id="decision_cached",
        text="the decision is cached in the turn",
        criterion=f"at {spec.high:g}, P(forward) > {MAJORITY:g} after a turn forced to the wrong side, "
        "in every layout",
        evidence=f"P(forward) {n['forward_after_wrong_turn']:.2f} after the wrong turn "
        f"({share:.0%} of layouts), {n['forward_after_right_turn']:.2f} after the right one",
        verdict=Verdict.of(share == 1, partly=share > 0),
    )


def _difference(
    spec: PsychologySpec, one: np.ndarray, two: np.ndarray
) -> tuple[float, float, float]:
    """Mean of one minus two over the same states, with its interval."""
    difference = one - two
    return (float(difference.mean()), *bootstrap(difference, spec.resamples, spec.seed))


def _diffuse_claim(spec: PsychologySpec, at: dict[float, pd.DataFrame]) -> Claim:
    low, high = at[spec.low], at[spec.high]
    off = ~low.on_routine.to_numpy()
    mean, begin, end = _difference(spec, low.entropy.to_numpy()[off], high.entropy.to_numpy()[off])
    on_low, off_low = low.entropy[~off].mean(), low.entropy[off].mean()
    return Claim(
        id="diffuse_off_routine",
        text=f"diffuse off the routine at {spec.low:g}",
        criterion=f"entropy off the routine above that at {spec.high:g}, and above that on the routine",
        evidence=f"{off_low:.2f} nats off, {on_low:.2f} on; {mean:+.2f} [{begin:.2f}, {end:.2f}] against "
        f"{spec.high:g}",
        about=About.REWARD_TO_GO,
        verdict=Verdict.of(begin > 0 and off_low > on_low, partly=begin > 0 or off_low > on_low),
    )


def _non_kinetic_claim(
    spec: PsychologySpec, at: dict[float, pd.DataFrame], states: pd.DataFrame
) -> Claim:
    low, high = (at[t].non_kinetic.to_numpy() for t in (spec.low, spec.high))
    mean, begin, end = _difference(spec, low, high)
    untrained = states[states.model != TRAINED].groupby(["model", "target"]).non_kinetic.mean()
    moved = untrained.unstack("target")
    chance = float((moved[spec.low] - moved[spec.high]).abs().max())
    return Claim(
        id="non_kinetic_mass",
        text=f"mass on non-kinetic actions at {spec.low:g}",
        criterion=f"more than at {spec.high:g}: the interval of the difference over states is above that of "
        "any untrained model",
        evidence=f"{low.mean():.3f} against {high.mean():.3f}, {mean:+.3f} [{begin:.3f}, {end:.3f}], "
        f"untrained at most {chance:.3f}",
        about=About.REWARD_TO_GO,
        verdict=Verdict.of(begin > chance, partly=begin > 0 and mean > chance),
    )


def _look_back(
    spec: PsychologySpec, decision: Decision, measured: PolicyMeasures
) -> tuple[dict[str, float | None], Claim]:
    """Look-backs at the high target by layout; and the turn there at the low target."""
    names, there = decision.layouts, 0  # the instruction is a key, and the matching key is up
    share = measured.play[measured.play.target == spec.high].set_index("layout").looks_back
    place = measured.poses.after(decision.routine(there)[: decision.step])
    _, wrong = decision.turns([there])
    value = (
        float(measured.probability[spec.targets.index(spec.low), there, place, wrong[0]])
        if place is not None
        else float("nan")
    )
    above = [name for name in names if share[name] > MAJORITY]
    metrics: dict[str, float | None] = {
        f"look_back_{name.replace('/', '_')}": float(share[name]) for name in names
    }
    metrics["wrong_turn_low_first_layout"] = value
    shares = ", ".join(f"{name} {share[name]:.2f}" for name in names)
    return metrics, Claim(
        id="looks_back",
        text=f"looks back at {spec.high:g} in {names[there]} alone",
        criterion=f"over half of the sampled episodes face back there and nowhere else (the study; at "
        f"{spec.low:g} it turns right with .88 there)",
        evidence=f"{shares}; wrong turn there at {spec.low:g}: {value:.2f}",
        verdict=Verdict.of(above == [names[there]], partly=bool(above)),
    )
