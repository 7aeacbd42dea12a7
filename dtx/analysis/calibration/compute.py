"""Play models at the targets and reduce the episodes to a curve, criteria and a verdict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dtx.analysis.calibration.criteria import judge, steered, summarise
from dtx.analysis.calibration.spec import (
    CLONE,
    DT,
    GREEDY,
    RANDOM,
    RECORDED,
    TRAINED_ON,
    UNTRAINED,
    CalibrationSpec,
)
from dtx.analysis.core.decision import demonstrated
from dtx.analysis.core.result import Check, Control, Relation, Result
from dtx.dataset.episodes import OUTCOMES, Episodes, Outcome, Split
from dtx.dt.load import untrained_like
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.rollout import Played, decision_probabilities, greedy_by_layout, rollouts
from dtx.dt.spec import Balance
from dtx.env.decision import Decision
from dtx.env.environment import Environment
from dtx.progress import progress
from dtx.statistics import bootstrap
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
        untrained: The same architecture; drawn on the spot if there is none.
        episodes: The demonstrations; without them every target counts as supported.
        balance: Shares of outcomes that the model was trained on; None if it was not trained here.

    Returns:
        Tables ``curve``: one row a model and target: mean_return, low, high (95% bootstrap interval),
        success, wrong, truncated (shares), mean_length, episodes, distinct_episodes, supported,
        training_episodes. ``decision``: one row a source, target and layout: share or probability of the
        wrong and the right turn at the decision square; empty where the environment names no decision.
        ``criteria``: one row a criterion: value, wanted, met.
    """
    players = [
        CalibratedModel(DT, model, spec.episodes),
        CalibratedModel(GREEDY, model, spec.greedy_episodes, greedy=True),
    ]
    if clone:
        players.append(CalibratedModel(CLONE, clone, spec.episodes))
    fresh = untrained or untrained_like(model, spec.seed)
    players.append(CalibratedModel(UNTRAINED, fresh, spec.control_episodes))
    curve = _curve(spec, env, players, episodes)
    decision = _decision(spec, model, env.decision, episodes, balance)
    wrong = None
    if env.decision is not None:
        outcomes = greedy_by_layout(model, env.decision, [spec.criteria.low])
        wrong = outcomes[0] == Outcome.WRONG
    return result_of(spec, curve, decision, wrong)


def result_of(
    spec: CalibrationSpec,
    curve: pd.DataFrame,
    decision: pd.DataFrame,
    greedy_wrong: np.ndarray | None,
) -> Result:
    """Hold what was played against the criteria.

    Args:
        spec: What is wanted.
        curve: See :func:`compute`. decision: See there.
        greedy_wrong: (layouts,) bool, whether the greedy episode at the low target ends at the wrong
            object; None where the environment has no layouts.
    """
    metrics = summarise(spec.criteria, curve, decision, greedy_wrong)
    criteria = judge(spec.criteria, metrics)
    metrics["steered"] = float(criteria.met.all())
    has_clone = bool((curve.model == CLONE).any())
    # In NumPy, for pandas passes over what is no number.
    sums = np.abs(curve[list(OUTCOMES)].to_numpy().sum(axis=1) - 1)
    checks = [
        Check(name="shares of outcomes add up to 1", error=float(sums.max()), tolerance=ROUNDING)
    ]
    if has_clone:
        flat = Check(
            name="the behaviour clone's return does not vary with the target",
            error=metrics["clone_spread"],
            tolerance=0,
        )
        checks.append(flat)
    return Result(
        finding=_finding(spec, metrics, greedy_wrong),
        metrics=metrics,
        checks=checks,
        controls=[
            Control(
                name="distance of the untrained model's mean return from a uniformly random policy's",
                value=abs(metrics["untrained_return"] - metrics["random_return"]),
                must_be=Relation.AT_MOST,
                against=spec.criteria.max_from_chance,
            )
        ],
        claims=[steered(spec.criteria, criteria)],
        tables={"curve": curve, "decision": decision, "criteria": criteria},
        distinct_inputs=int(curve.distinct_episodes[curve.model == DT].sum()),
        problems=[] if has_clone else ["no clone to compare with: no behaviour clone was trained"],
    )


def _finding(
    spec: CalibrationSpec, metrics: dict[str, float], greedy_wrong: np.ndarray | None
) -> str:
    low, high = spec.criteria.low, spec.criteria.high
    parts = [
        f"asked for {high:g}: success {metrics['success_high']:.2f}",
        f"asked for {low:g}: return {metrics['return_low']:.3f}",
    ]
    if greedy_wrong is not None:
        parts.append(
            f"greedy play at RTG {low:g} picks the wrong object in "
            f"{greedy_wrong.sum()}/{len(greedy_wrong)} layouts"
        )
    rank, spread = metrics["spearman"], metrics["clone_spread"]
    parts.append("no Spearman correlation" if np.isnan(rank) else f"Spearman {rank:.2f}")
    if spread == 0:
        parts.append("behaviour clone: return does not vary with RTG")
    elif not np.isnan(spread):
        parts.append(f"behaviour clone: return varies with RTG by {spread:.3f}")
    return ", ".join(parts)


def _curve(
    spec: CalibrationSpec,
    env: Environment,
    players: list[CalibratedModel],
    episodes: Episodes | None,
) -> pd.DataFrame:
    # Without demonstrations nothing says which targets are supported: all of them count.
    counts = training_support(episodes, spec.targets) if episodes else None
    support = counts or dict.fromkeys(spec.targets, np.nan)
    total = sum(player.episodes for player in players) * len(spec.targets)
    rows = []
    with one_thread(), progress("calibration", total, "episodes") as bar:
        for player in players:
            bar.advance(0, player.name)
            played = rollouts(
                player.model,
                env,
                spec.targets,
                episodes=player.episodes,
                seed=spec.seed,
                temperature=spec.temperature,
                greedy=player.greedy,
            )
            for target, episodes_at in zip(spec.targets, played, strict=True):
                rows.append(_row(spec, player.name, target, episodes_at, support[target]))
            bar.advance(player.episodes * len(played))
    chance = play_uniformly(env, spec.episodes, spec.seed)
    rows += [_row(spec, RANDOM, target, chance, support[target]) for target in spec.targets]
    return pd.DataFrame(rows)


def play_uniformly(env: Environment, episodes: int, seed: int) -> Played:
    """Chance: episodes of the policy that takes every action with the same probability."""
    vector, noise = env.vector(episodes, seed), np.random.default_rng(seed)
    first = vector.reset()
    returns, length = np.zeros(episodes, np.float32), np.zeros(episodes, np.int64)
    outcome, playing = np.full(episodes, Outcome.TRUNCATED, np.uint8), np.ones(episodes, bool)
    while playing.any():
        step = vector.step(noise.integers(0, vector.n_actions, episodes))
        returns[playing] += step.reward[playing]
        length[playing] += 1
        over = playing & step.terminated
        outcome[over] = np.where(step.reward[over] > 0, Outcome.SUCCESS, Outcome.WRONG)
        playing &= ~step.ended
    vector.close()
    return Played(np.zeros(episodes, np.float32), returns, length, outcome, first)


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
    low, high = bootstrap(returns, spec.resamples, spec.seed)
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
        "low": low,
        "high": high,
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
