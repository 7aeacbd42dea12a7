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
from dtx.statistics import mean_estimate

VALUES = ("return", "looks_back", *OUTCOMES)


def play(
    model: Player, env: Environment, spec: SteeringSpec, *, sampled: bool = True
) -> pd.DataFrame:
    """Episodes at both targets in every layout, one row each.

    Args:
        model: Steered or not.
        env: Where.
        spec: Targets, episodes and seed.
        sampled: Also sampled episodes, which meet the same random numbers whatever steers them; else one a
            layout and target alone, of the most probable actions.

    Returns:
        layout ("" where there are none), target, episode, greedy, return, looks_back, success, wrong,
        truncated, actions (bytes).
    """
    parts = [_play(model, env, spec, spec.episodes, greedy=False)] if sampled else []
    return pd.concat([*parts, _play(model, env, spec, 1, greedy=True)], ignore_index=True)


def _play(
    model: Player, env: Environment, spec: SteeringSpec, count: int, *, greedy: bool
) -> pd.DataFrame:
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
    number = np.arange(2 * one) % one
    played = rollout(model, recorder, target, seed=spec.seed, greedy=greedy, episode=number)
    recorder.close()
    actions = np.stack(recorder.actions, 1)
    past_end = np.arange(actions.shape[1]) >= played.length[:, None]
    return pd.DataFrame({
        "layout": np.array(names)[layout], "target": target, "episode": number % count,
        "greedy": greedy, "return": played.returns.astype(float),
        "looks_back": looks_back(actions, played.length).astype(float),
        **{name: (played.outcome == i).astype(float) for i, name in enumerate(OUTCOMES)},
        "actions": [row.tobytes() for row in np.where(past_end, 255, actions).astype(np.uint8)],
    })  # fmt: skip


def by_layout(episodes: pd.DataFrame, **about: object) -> pd.DataFrame:
    """One row a layout and target: means with the return's interval, and what the greedy episode gave."""
    rows = []
    single = episodes[episodes["greedy"]].set_index(["target", "layout"])
    for place, sampled in episodes[~episodes["greedy"]].groupby(["target", "layout"], sort=False):
        target, layout = place  # type: ignore[misc]
        rows.append({
            **about, "target": target, "layout": layout,
            **{name: sampled[name].mean() for name in VALUES},
            **mean_estimate(sampled["return"].to_numpy()).columns(),
            "greedy_return": single.loc[(target, layout), "return"],
            "greedy_looks_back": single.loc[(target, layout), "looks_back"],
            "distinct_episodes": sampled["actions"].nunique(),
        })  # fmt: skip
    return pd.DataFrame(rows)
