"""Episodes with an edit in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dtx.analysis.core.recorder import Recorder, looks_back
from dtx.analysis.steering import Steering
from dtx.dataset.episodes import OUTCOMES
from dtx.dt.rollout import rollout
from dtx.statistics import bootstrap

VALUES = ("return", "looks_back", *OUTCOMES)


def play(model: Any, stage: Steering, *, greedy: bool = False) -> pd.DataFrame:
    """Episodes at both targets in every layout, one row each.

    Args:
        model: Steered or not.
        greedy: One episode a layout and target, of the most probable actions; else sampled ones, which
            meet the same random numbers whatever steers them.

    Returns:
        layout, target, return, looks_back, success, wrong, truncated, actions (bytes).
    """
    env: Any = stage.env
    count = 1 if greedy else stage.episodes
    layouts = list(env.layouts()) if hasattr(env, "layouts") else None
    one = count * len(layouts or [""])
    target = np.repeat([stage.low, stage.high], one)
    layout = np.tile(np.repeat(np.arange(len(layouts or [""])), count), 2)
    if layouts is None:
        from dtx.env.vector import Stacked

        world: Any = Stacked([env.vector(one, stage.seed) for _ in range(2)])
    else:
        world = env.vector(len(layout), stage.seed, layouts=layout.tolist())
    recorder = Recorder(world)
    played = rollout(
        model, recorder, target, seed=stage.seed, greedy=greedy, episode=np.arange(2 * one) % one
    )
    recorder.close()
    actions = np.stack(recorder.actions, 1)
    past_end = np.arange(actions.shape[1]) >= played.length[:, None]
    known = np.array(layouts or [""])
    return pd.DataFrame({
        "layout": known[layout], "target": target, "return": played.returns.astype(float),
        "looks_back": looks_back(actions, played.length).astype(float),
        **{name: (played.outcome == i).astype(float) for i, name in enumerate(OUTCOMES)},
        "actions": [row.tobytes() for row in np.where(past_end, 255, actions).astype(np.uint8)],
    })  # fmt: skip


def by_layout(
    sampled: pd.DataFrame, greedy: pd.DataFrame, stage: Steering, **about: object
) -> pd.DataFrame:
    """One row a layout and target: means with the return's interval, and what the greedy episode gave."""
    rows = []
    single = greedy.set_index(["target", "layout"])
    for place, mine in sampled.groupby(["target", "layout"], sort=False):
        target, layout = place  # type: ignore[misc]
        low, high = bootstrap(mine["return"].to_numpy(), stage.resamples, stage.seed)
        rows.append({
            **about, "target": target, "layout": layout,
            **{name: mine[name].mean() for name in VALUES}, "low": low, "high": high,
            "greedy_return": single.loc[(target, layout), "return"],
            "greedy_looks_back": single.loc[(target, layout), "looks_back"],
            "episodes": len(mine), "distinct_episodes": mine["actions"].nunique(),
        })  # fmt: skip
    return pd.DataFrame(rows)
