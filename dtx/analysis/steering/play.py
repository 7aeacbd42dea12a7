"""Episodes with an edit in place."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dtx.analysis.core.recorder import Recorder, looks_back
from dtx.analysis.steering.spec import SteeringSpec
from dtx.dataset.episodes import OUTCOMES
from dtx.dt.incremental import Player
from dtx.dt.rollout import rollout
from dtx.env.environment import Environment
from dtx.env.vector import Stacked
from dtx.statistics import bootstrap

VALUES = ("return", "looks_back", *OUTCOMES)


def play(
    model: Player, env: Environment, spec: SteeringSpec, *, greedy: bool = False
) -> pd.DataFrame:
    """Episodes at both targets in every layout, one row each.

    Args:
        model: Steered or not.
        env: Where.
        spec: Targets, episodes and seed.
        greedy: One episode a layout and target, of the most probable actions; else sampled ones, which
            meet the same random numbers whatever steers them.

    Returns:
        layout ("" where there are none), target, return, looks_back, success, wrong, truncated, actions
        (bytes).
    """
    count = 1 if greedy else spec.episodes
    decision = env.decision
    names = ("",) if decision is None else decision.layouts
    one = count * len(names)
    target = np.repeat([spec.low, spec.high], one)
    layout = np.tile(np.repeat(np.arange(len(names)), count), 2)
    if decision is None:
        world = Stacked([env.vector(one, spec.seed) for _ in range(2)])
    else:
        world = decision.vector(layout.tolist(), spec.seed)
    recorder = Recorder(world)
    played = rollout(
        model, recorder, target, seed=spec.seed, greedy=greedy, episode=np.arange(2 * one) % one
    )
    recorder.close()
    actions = np.stack(recorder.actions, 1)
    past_end = np.arange(actions.shape[1]) >= played.length[:, None]
    return pd.DataFrame({
        "layout": np.array(names)[layout], "target": target, "return": played.returns.astype(float),
        "looks_back": looks_back(actions, played.length).astype(float),
        **{name: (played.outcome == i).astype(float) for i, name in enumerate(OUTCOMES)},
        "actions": [row.tobytes() for row in np.where(past_end, 255, actions).astype(np.uint8)],
    })  # fmt: skip


def by_layout(
    sampled: pd.DataFrame, greedy: pd.DataFrame, spec: SteeringSpec, **about: object
) -> pd.DataFrame:
    """One row a layout and target: means with the return's interval, and what the greedy episode gave."""
    rows = []
    single = greedy.set_index(["target", "layout"])
    for place, episodes in sampled.groupby(["target", "layout"], sort=False):
        target, layout = place  # type: ignore[misc]
        low, high = bootstrap(episodes["return"].to_numpy(), spec.resamples, spec.seed)
        rows.append({
            **about, "target": target, "layout": layout,
            **{name: episodes[name].mean() for name in VALUES}, "low": low, "high": high,
            "greedy_return": single.loc[(target, layout), "return"],
            "greedy_looks_back": single.loc[(target, layout), "looks_back"],
            "episodes": len(episodes), "distinct_episodes": episodes["actions"].nunique(),
        })  # fmt: skip
    return pd.DataFrame(rows)
