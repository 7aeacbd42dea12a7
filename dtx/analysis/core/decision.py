"""What is chosen at the decision square on the routine: by the demonstrations, given their outcome."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dtx.dataset.episodes import Episodes
from dtx.dt.decision_transformer import Balance


def has_decision(env: Any) -> bool:
    """Whether the environment says where its decision is (Memory does)."""
    return all(
        hasattr(env, name)
        for name in ("at_decision", "decision_step", "layout_of", "correct_turn", "wrong_turn")
    )


def demonstrated(episodes: Episodes, env: Any, high: float, balance: Balance) -> pd.DataFrame:
    """The demonstrations' own choice on first arrival at the decision square, on the routine.

    This is the honest ceiling for a model of them: what follows from the data given reward-to-go.

    Args:
        episodes: The demonstrations.
        env: Names its decision square, layouts and correct turns.
        high: Reward-to-go from which an episode counts as asked to succeed.
        balance: Shares of outcomes that the model was trained on; they weight the episodes.

    Returns:
        Rows (layout, reward_to_go "low" | "high", weighting "as recorded" | "as trained on", episodes,
        wrong_turn, right_turn): shares of the first action there that turn away from or to the goal.
    """
    step = env.decision_step
    long = episodes.length > step
    at, first = episodes.start[long] + step, episodes.start[long]
    seen = episodes.observations[episodes.observation[at]]
    there = env.at_decision(seen)
    at, first, seen = at[there], first[there], seen[there]
    layout = env.layout_of(episodes.observations[episodes.observation[first]], seen)
    action, outcome = episodes.action[at], episodes.outcome[long][there]
    to_go = episodes.reward_to_go[at]
    right = action == env.correct_turn(layout)
    wrong = action == env.wrong_turn(layout)
    weights = {
        "as recorded": np.ones(len(at)),
        "as trained on": _weights(outcome, episodes.outcome, balance),
    }
    rows = []
    for name, asked in (("low", to_go == 0), ("high", to_go >= high)):
        for index, layout_name in enumerate(env.layouts()):
            mine = asked & (layout == index)
            for weighting, weight in weights.items():
                shares = [_share(hit[mine], weight[mine]) for hit in (wrong, right)]
                rows.append((layout_name, name, weighting, int(mine.sum()), *shares))
    columns = ["layout", "reward_to_go", "weighting", "episodes", "wrong_turn", "right_turn"]
    return pd.DataFrame(rows, columns=columns)


def _share(hit: np.ndarray, weight: np.ndarray) -> float:
    return float((weight * hit).sum() / weight.sum()) if weight.sum() else np.nan


def _weights(outcome: np.ndarray, of_all: np.ndarray, balance: Balance) -> np.ndarray:
    """How often an episode of each outcome is drawn in training, relative to the data."""
    counts = np.bincount(of_all, minlength=3).astype(float)
    if balance is Balance.none:
        return np.ones(len(outcome))
    groups = [[0], [1, 2]] if balance is Balance.success else [[0], [1], [2]]
    each = np.zeros(3)
    for group in groups:
        each[group] = 1 / (len(groups) * max(counts[group].sum(), 1))
    return each[outcome] * counts.sum()
