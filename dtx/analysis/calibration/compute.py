"""Play models at the targets and reduce the episodes to a curve, criteria and verdicts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dtx.analysis.calibration.baselines import FailingPolicy, play
from dtx.analysis.calibration.criteria import (
    Returns,
    claims,
    clone_spread,
    controls,
    judge,
    measure,
)
from dtx.analysis.calibration.spec import (
    CLONE,
    DT,
    FAILING,
    GREEDY,
    RANDOM,
    RECORDED,
    SHUFFLED,
    TRAINED_ON,
    UNTRAINED,
    CalibrationSpec,
)
from dtx.analysis.core.decision import demonstrated
from dtx.analysis.core.result import About, Check, Result, Verdict
from dtx.dataset.episodes import OUTCOMES, Episodes, Outcome, Split
from dtx.dt.load import untrained_like
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.rollout import Played, decision_probabilities, greedy_by_layout, rollouts
from dtx.dt.spec import Balance
from dtx.env.decision import Decision
from dtx.env.environment import Environment
from dtx.progress import progress
from dtx.statistics import Estimate, mean_estimate
from dtx.training.threads import one_thread

ROUNDING = 1e-9


@dataclass(frozen=True)
class CalibratedModel:
    """A model that plays, and how."""

    name: str
    model: DecisionTransformerModel
    episodes: int
    greedy: bool = False


def compute(
    spec: CalibrationSpec,
    model: DecisionTransformerModel,
    env: Environment,
    *,
    clone: DecisionTransformerModel | None = None,
    shuffled: DecisionTransformerModel | None = None,
    untrained: DecisionTransformerModel | None = None,
    episodes: Episodes | None = None,
    balance: Balance | None = None,
) -> Result:
    """Play every model at every target and judge the criteria.

    Args:
        spec: What is asked for, how much is played, and what is wanted.
        model: The one in question.
        env: Where all models act.
        clone: The same model without reward-to-go; without one nothing is established.
        shuffled: The same model trained with shuffled returns; without one nothing is established.
        untrained: The same architecture; drawn on the spot if there is none.
        episodes: The demonstrations; without them every target counts as supported.
        balance: Shares of outcomes that the model was trained on; None if it was not trained here.

    Returns:
        Tables ``curve``: one row a model and target: mean_return, low, high (95% interval), n, interval (its
        kind), success, wrong, truncated (shares), mean_length, episodes, distinct_episodes, supported,
        training_episodes. ``decision``: one row a source, target and layout: share or probability of the
        wrong and the right turn at the decision square; empty where the environment names no decision.
        ``criteria``: one row a criterion, see :func:`dtx.analysis.calibration.criteria.judge`.
    """
    players = [
        CalibratedModel(DT, model, spec.episodes),
        CalibratedModel(GREEDY, model, spec.greedy_episodes, greedy=True),
    ]
    if clone:
        players.append(CalibratedModel(CLONE, clone, spec.control_episodes))
    if shuffled:
        players.append(CalibratedModel(SHUFFLED, shuffled, spec.control_episodes))
    fresh = untrained or untrained_like(model, spec.seed)
    players.append(CalibratedModel(UNTRAINED, fresh, spec.control_episodes))
    played = _play(spec, env, players)
    chance = play(None, env, spec.episodes, spec.seed)
    played[RANDOM] = [chance] * len(spec.targets)
    if episodes is not None:
        # Other worlds and random numbers than the model's: the two are compared as independent samples.
        policy = FailingPolicy(episodes, env.n_actions, model.cfg.n_steps)
        played[FAILING] = [play(policy, env, spec.episodes, spec.seed + 1)]
    curve = _curve(spec, played, episodes)
    decision = _decision(spec, model, env.decision, episodes, balance)
    wrong = None
    if env.decision is not None:
        outcomes = greedy_by_layout(model, env.decision, [spec.criteria.low])
        wrong = outcomes[0] == Outcome.WRONG
    returns = {name: np.stack([p.returns for p in at]).astype(float) for name, at in played.items()}
    return result_of(spec, curve, returns, decision, wrong)


def result_of(
    spec: CalibrationSpec,
    curve: pd.DataFrame,
    returns: Returns,
    decision: pd.DataFrame,
    greedy_wrong: np.ndarray | None,
) -> Result:
    """Hold what was played against the criteria.

    Args:
        spec: What is wanted.
        curve: See :func:`compute`. decision: See there.
        returns: (targets, episodes) of every model that played.
        greedy_wrong: (layouts,) bool, whether the greedy episode at the low target ends at the wrong
            object; None where the environment has no layouts.
    """
    found = measure(spec, curve, returns, decision, greedy_wrong)
    criteria = judge(spec.criteria, found)
    made = claims(spec.criteria, criteria)
    spread = clone_spread(returns)
    metrics = {name: estimate.value for name, estimate in found.items()}
    metrics |= {claim.id: float(claim.verdict is Verdict.CONFIRMED) for claim in made}
    metrics |= {
        "spread": float(np.ptp(returns[DT].mean(1))),
        "clone_spread": spread,
        "clone_return": float(returns[CLONE].mean()) if CLONE in returns else math.nan,
        "untrained_return": float(returns[UNTRAINED].mean()),
        "random_return": float(returns[RANDOM].mean()),
    }
    # In NumPy, for pandas passes over what is no number.
    sums = np.abs(curve[list(OUTCOMES)].to_numpy().sum(axis=1) - 1)
    checks = [
        Check(name="shares of outcomes add up to 1", error=float(sums.max()), tolerance=ROUNDING)
    ]
    problems = []
    if CLONE in returns:
        name = "the behaviour clone's return does not vary with the target"
        checks.append(Check(name=name, error=spread, tolerance=0))
    else:
        problems.append("no clone to compare with: no behaviour clone was trained")
    if SHUFFLED not in returns:
        problems.append("no control of reward-to-go: no model was trained with shuffled returns")
    return Result(
        finding=_finding(spec, found, spread, greedy_wrong),
        metrics=metrics,
        checks=checks,
        controls=controls(spec.criteria, found),
        claims=made,
        tables={"curve": curve, "decision": decision, "criteria": criteria},
        distinct_inputs=int(curve.distinct_episodes[curve.model == DT].sum()),
        about=About.REWARD_TO_GO,
        problems=problems,
    )


def _finding(
    spec: CalibrationSpec,
    found: dict[str, Estimate],
    clone: float,
    greedy_wrong: np.ndarray | None,
) -> str:
    low, high = spec.criteria.low, spec.criteria.high
    parts = [
        f"asked for {high:g}: success {found['success_high'].value:.2f}",
        f"asked for {low:g}: return {found['return_low'].value:.3f}",
    ]
    if "failing_return" in found:
        parts[-1] += f" (failing demonstrations {found['failing_return'].value:.3f})"
    if greedy_wrong is not None:
        parts.append(
            f"greedy play at RTG {low:g} picks the wrong object in "
            f"{greedy_wrong.sum()}/{len(greedy_wrong)} layouts"
        )
    if "mae" in found:
        parts.append(f"mean distance of return and target {found['mae'].value:.3f}")
        parts.append(f"Spearman {found['spearman'].value:.2f}")
    if "shuffled_response" in found:
        parts.append(
            f"return rises by {found['response'].value:.2f} from {low:g} to {high:g}, by "
            f"{found['shuffled_response'].value:.2f} if trained with shuffled returns"
        )
    if clone == 0:
        parts.append("behaviour clone: return does not vary with RTG")
    elif not math.isnan(clone):
        parts.append(f"behaviour clone: return varies with RTG by {clone:.3f}")
    return ", ".join(parts)


def _play(
    spec: CalibrationSpec, env: Environment, players: list[CalibratedModel]
) -> dict[str, list[Played]]:
    """Episodes of every model at every target."""
    total = sum(player.episodes for player in players) * len(spec.targets)
    played = {}
    with one_thread(), progress("calibration", total, "episodes") as bar:
        for player in players:
            bar.advance(0, player.name)
            played[player.name] = rollouts(
                player.model,
                env,
                spec.targets,
                episodes=player.episodes,
                seed=spec.seed,
                temperature=spec.temperature,
                greedy=player.greedy,
            )
            bar.advance(player.episodes * len(spec.targets))
    return played


def _curve(
    spec: CalibrationSpec, played: dict[str, list[Played]], episodes: Episodes | None
) -> pd.DataFrame:
    # Without demonstrations nothing says which targets are supported: all of them count.
    counts = training_support(episodes, spec.targets) if episodes else None
    support = counts or dict.fromkeys(spec.targets, np.nan)
    rows = []
    for name, by_target in played.items():
        targets = spec.targets if len(by_target) > 1 else (spec.criteria.low,)
        for target, at in zip(targets, by_target, strict=True):
            rows.append(_row(spec, name, target, at, support[target]))
    return pd.DataFrame(rows)


def training_support(episodes: Episodes, targets: tuple[float, ...]) -> dict[float, int]:
    """Training episodes by the target that their return is nearest to.

    Returns outside the range of the targets are ignored.
    """
    returns = episodes.returns[episodes.split == Split.TRAIN]
    ordered = np.sort(np.array(targets, float))
    nearest = np.abs(returns[:, None] - ordered[None, :])
    close = nearest.min(1) <= np.diff(ordered).max() / 2 + 1e-9
    counts = np.bincount(nearest.argmin(1)[close], minlength=len(ordered))
    return dict(zip(ordered.tolist(), counts.tolist(), strict=True))


def _row(
    spec: CalibrationSpec, name: str, target: float, played: Played, training: float
) -> dict[str, str | float]:
    returns = played.returns.astype(float)
    signature = np.concatenate(
        [
            played.first_observation.reshape(len(returns), -1),
            played.length[:, None],
            played.outcome[:, None],
        ],
        1,
    )
    return {
        "model": name,
        "target": target,
        "mean_return": float(returns.mean()),
        **mean_estimate(returns).columns(),
        **{o: played.share(i) for i, o in enumerate(OUTCOMES)},
        "mean_length": float(played.length.mean()),
        "episodes": len(returns),
        "distinct_episodes": len(np.unique(signature, axis=0)),
        "training_episodes": training,
        "supported": not training < spec.support,
    }


def _decision(
    spec: CalibrationSpec,
    model: DecisionTransformerModel,
    decision: Decision | None,
    episodes: Episodes | None,
    balance: Balance | None,
) -> pd.DataFrame:
    columns = ["source", "target", "layout", "wrong_turn", "right_turn", "episodes"]
    if decision is None:
        return pd.DataFrame(columns=columns)
    right, wrong = decision.turns(range(len(decision.layouts)))
    probability = decision_probabilities(model, decision, spec.targets)
    rows = [
        (DT, target, layout, float(at[wrong[i]]), float(at[right[i]]), 0)
        for target, by_layout in zip(spec.targets, probability, strict=True)
        for i, (layout, at) in enumerate(zip(decision.layouts, by_layout, strict=True))
    ]
    if episodes is None:
        return pd.DataFrame(rows, columns=columns)
    # The best return that the data has, less a step's worth: the episodes that went straight there.
    best = float(episodes.returns.max()) - 0.035
    sources = {"as recorded": RECORDED}
    if balance is not None:
        sources["as trained on"] = TRAINED_ON
    chosen = demonstrated(episodes, decision, best, balance or Balance.none)
    for row in chosen[chosen.weighting.isin(list(sources))].itertuples():
        target = spec.criteria.low if row.reward_to_go == "low" else spec.criteria.high
        turns = (row.wrong_turn, row.right_turn)
        rows.append((sources[row.weighting], target, row.layout, *turns, row.episodes))
    return pd.DataFrame(rows, columns=columns)
