"""What the demonstrations choose at the decision square on the routine, given their outcome."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dtx.dataset.episodes import Episodes
from dtx.dt.spec import Balance
from dtx.env.decision import Decision


def demonstrated(
    episodes: Episodes, decision: Decision, high: float, balance: Balance
) -> pd.DataFrame:
    """The demonstrations' own choice on first arrival at the decision square, on the routine.

    A model of the demonstrations can do no better: this is what follows from the data given reward-to-go.

    Args:
        episodes: The demonstrations.
        decision: Of the environment: its layouts, where they decide, and their turns.
        high: Reward-to-go from which an episode counts as asked to succeed.
        balance: Shares of outcomes that the model was trained on; they weight the episodes.

    Returns:
        Rows (layout, reward_to_go "low" | "high", weighting "as recorded" | "as trained on", episodes,
        wrong_turn, right_turn): shares of the first action there that turn away from or to the goal.
    """
    step = decision.step
    long = episodes.length > step
    at, first = episodes.start[long] + step, episodes.start[long]
    seen = episodes.observations[episodes.observation[at]]
    there = decision.here(seen)
    at, first, seen = at[there], first[there], seen[there]
    layout = decision.layout_of(episodes.observations[episodes.observation[first]], seen)
    action, outcome = episodes.action[at], episodes.outcome[long][there]
    to_go = episodes.reward_to_go[at]
    right_turn, wrong_turn = decision.turns(layout)
    right, wrong = action == right_turn, action == wrong_turn
    weights = {
        "as recorded": np.ones(len(at)),
        "as trained on": _weights(outcome, episodes.outcome, balance),
    }
    rows = []
    for name, asked in (("low", to_go == 0), ("high", to_go >= high)):
        for index, layout_name in enumerate(decision.layouts):
            here = asked & (layout == index)
            for weighting, weight in weights.items():
                shares = [_share(hit[here], weight[here]) for hit in (wrong, right)]
                rows.append((layout_name, name, weighting, int(here.sum()), *shares))
    columns = ["layout", "reward_to_go", "weighting", "episodes", "wrong_turn", "right_turn"]
    return pd.DataFrame(rows, columns=columns)


def _share(hit: np.ndarray, weight: np.ndarray) -> float:
    return float((weight * hit).sum() / weight.sum()) if weight.sum() else np.nan


def _weights(outcome: np.ndarray, of_all: np.ndarray, balance: Balance) -> np.ndarray:
    """How often an episode of each outcome is drawn in training, relative to the data."""
    counts = np.bincount(of_all, minlength=3).astype(float)
    if balance is Balance.none:
        return np.ones(len(outcome))
    groups = [[0], [1], [2]] if balance is Balance.outcome else [[0], [1, 2]]
    each = np.zeros(3)
    for group in groups:
        each[group] = 1 / (len(groups) * max(counts[group].sum(), 1))
    return each[outcome] * counts.sum()
