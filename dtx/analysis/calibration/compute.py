"""Play the models of a calibration and reduce the episodes to a curve, criteria and a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dtx.analysis.calibration import Calibration
from dtx.analysis.calibration.criteria import CLONE, DT, GREEDY, RANDOM, UNTRAINED, judge, summarise
from dtx.analysis.core.decision import demonstrated, has_decision
from dtx.dataset.episodes import OUTCOMES, Episodes, Outcome, Split
from dtx.dt.decision_transformer import Balance
from dtx.dt.provider import check_fits, untrained_like
from dtx.dt.rollout import Played, decision_probabilities, greedy_by_layout, rollouts
from dtx.env.environment import Environment
from dtx.progress import progress
from dtx.statistics import bootstrap
from dtx.training.threads import one_thread


@dataclass
class Results:
    """What a calibration found.

    Attributes:
        curve: One row a model and target: target, model, mean_return, low, high (95% bootstrap interval),
            success, wrong, truncated (shares), mean_length, episodes, distinct_episodes, supported,
            training_episodes.
        decision: One row a source, reward-to-go and layout: share or probability of the wrong and the
            right turn at the decision square. Empty where the environment names none.
        criteria: One row a criterion: criterion, value, wanted, met.
        headline: ``calibration/*`` scalars.
    """

    curve: pd.DataFrame
    decision: pd.DataFrame
    criteria: pd.DataFrame
    headline: dict[str, float | None]


def measure(stage: Calibration) -> Results:
    """Play every model at every target and judge the criteria."""
    dt = stage.dt.load()
    check_fits(dt, stage.env, stage.dt.label)
    episodes = stage.dataset.load() if stage.dataset else None
    fresh = stage.untrained.load() if stage.untrained else untrained_like(dt, stage.seed)
    plays = [(DT, dt, stage.episodes, False), (GREEDY, dt, stage.greedy_episodes, True)]
    if stage.behaviour_clone:
        plays.append((CLONE, stage.behaviour_clone.load(), stage.episodes, False))
    plays.append((UNTRAINED, fresh, stage.control_episodes, False))
    # Without demonstrations nothing says which targets are supported: all of them count.
    counts = training_support(episodes, stage.targets) if episodes else None
    support = counts or dict.fromkeys(stage.targets, np.nan)
    total = sum(count for _, _, count, _ in plays) * len(stage.targets)
    rows = []
    with one_thread(), progress("calibration", total, "episodes") as bar:
        for name, model, count, greedy in plays:
            bar.advance(0, name)
            played = rollouts(
                model,
                stage.env,
                stage.targets,
                episodes=count,
                seed=stage.seed,
                temperature=stage.temperature,
                greedy=greedy,
            )
            for target, episodes_at in zip(stage.targets, played, strict=True):
                rows.append(_row(name, target, episodes_at, support[target], stage))
            bar.advance(count * len(played))
    chance = play_uniformly(stage.env, stage.episodes, stage.seed)
    rows += [_row(RANDOM, target, chance, support[target], stage) for target in stage.targets]
    curve = pd.DataFrame(rows)
    decision = _decision(stage, dt, episodes)
    wrong = _greedy_wrong_layouts(stage, dt)
    headline = summarise(stage, curve, decision, wrong)
    criteria = judge(stage.criteria, headline)
    headline["calibration/steered"] = float(criteria.met.all())
    return Results(curve, decision, criteria, headline)


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
    """Training episodes by the target that their return is nearest to; ones beyond the last step aside."""
    returns = episodes.returns[episodes.split == Split.TRAIN]
    ordered = np.sort(np.array(targets, float))
    nearest = np.abs(returns[:, None] - ordered[None, :])
    close = nearest.min(1) <= np.diff(ordered).max() / 2 + 1e-9
    counts = np.bincount(nearest.argmin(1)[close], minlength=len(ordered))
    return dict(zip(ordered.tolist(), counts.tolist(), strict=True))


def _row(
    name: str, target: float, played: Played, training: float, stage: Calibration
) -> dict[str, Any]:
    returns = played.returns.astype(float)
    low, high = bootstrap(returns, stage.resamples, stage.seed)
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
        "supported": not training < stage.support,
    }


def _decision(stage: Calibration, dt: Any, episodes: Episodes | None) -> pd.DataFrame:
    columns = ["source", "target", "layout", "wrong_turn", "right_turn", "episodes"]
    if not has_decision(stage.env):
        return pd.DataFrame(columns=columns)
    layouts = stage.env.layouts()  # type: ignore[attr-defined]
    right = np.asarray(stage.env.correct_turn(np.arange(len(layouts))))  # type: ignore[attr-defined]
    wrong = np.asarray(stage.env.wrong_turn(np.arange(len(layouts))))  # type: ignore[attr-defined]
    probability = decision_probabilities(dt, stage.env, stage.targets)
    rows = [
        (
            DT,
            target,
            layout,
            float(probability[r, i, wrong[i]]),
            float(probability[r, i, right[i]]),
            0,
        )
        for r, target in enumerate(stage.targets)
        for i, layout in enumerate(layouts)
    ]
    if episodes is None:
        return pd.DataFrame(rows, columns=columns)
    # The best return that the data has, less a step's worth: the episodes that went straight there.
    best = float(episodes.returns.max()) - 0.035
    trained_here = getattr(stage.dt, "windows", None)
    balance = trained_here.balance if trained_here else Balance.none
    posterior = demonstrated(episodes, stage.env, best, balance)
    if not trained_here:
        posterior = posterior[posterior.weighting == "as recorded"]
    for layout, asked, weighting, count, wrong_share, right_share in posterior.itertuples(
        index=False
    ):
        target = stage.criteria.low if asked == "low" else stage.criteria.high
        rows.append(
            (f"demonstrations, {weighting}", target, layout, wrong_share, right_share, count)
        )
    return pd.DataFrame(rows, columns=columns)


def _greedy_wrong_layouts(stage: Calibration, dt: Any) -> float | None:
    """Share of layouts in which the greedy episode at the low target ends at the wrong object."""
    if not hasattr(stage.env, "layouts"):
        return None
    outcomes = greedy_by_layout(dt, stage.env, [stage.criteria.low])
    return float((outcomes == Outcome.WRONG).mean())
