"""How long episodes last with the clock as it is, and with the clock reset: if it counts, by as much less."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from dtx.analysis.countdown.clock import reset_clock
from dtx.analysis.countdown.naming import StepsNamed
from dtx.analysis.countdown.spec import GREEDY, SAMPLED, CountdownSpec
from dtx.dataset.episodes import Outcome
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.rollout import Played, rollout, rollouts
from dtx.env.decision import Decision
from dtx.env.environment import Environment


def curve(
    spec: CountdownSpec,
    models: Mapping[str, DecisionTransformerModel],
    env: Environment,
    decision: Decision,
    named: StepsNamed,
) -> pd.DataFrame:
    """Play with every clock.

    Returns:
        One row an episode: model, how (sampled or greedy; greedy of the first model alone), offset (steps by
        which the clock is ahead), target, episode, return, length, success, named (steps that the target
        names), expected (steps, if the clock is what counts), possible (whether an episode may last as
        long: the shortest success at least, and some success at most).
    """
    parts = []
    for number, (name, model) in enumerate(models.items()):
        for offset in (0, *spec.offsets):
            player = reset_clock(model, offset, env.horizon) if offset else model
            for how in (SAMPLED, GREEDY)[: 1 if number else 2]:
                episodes = spec.control_episodes if number else spec.curve_episodes
                if how == GREEDY:
                    played = _greedy(spec, player, decision)
                else:
                    played = _sampled(spec, player, env, episodes)
                parts.append(played.assign(model=name, how=how, offset=offset))
    table = pd.concat(parts, ignore_index=True)
    table["named"] = named.steps(table.target)
    table["expected"] = table.named - table.offset
    table["possible"] = table.expected.between(named.shortest, named.longest)
    return table


def _sampled(
    spec: CountdownSpec, model: DecisionTransformerModel, env: Environment, episodes: int
) -> pd.DataFrame:
    played = rollouts(model, env, spec.curve_targets, episodes=episodes, seed=spec.seed)
    parts = [_rows(part, target) for target, part in zip(spec.curve_targets, played, strict=True)]
    return pd.concat(parts, ignore_index=True)


def _greedy(
    spec: CountdownSpec, model: DecisionTransformerModel, decision: Decision
) -> pd.DataFrame:
    # A greedy episode follows from its layout: one each is all there are.
    layouts = len(decision.layouts)
    vector = decision.vector(np.tile(np.arange(layouts), len(spec.curve_targets)).tolist(), 0)
    target = np.repeat(np.array(spec.curve_targets, np.float32), layouts)
    played = rollout(model, vector, target, seed=0, greedy=True)
    vector.close()
    parts = [
        _rows(played.part(slice(i * layouts, (i + 1) * layouts)), t)
        for i, t in enumerate(spec.curve_targets)
    ]
    return pd.concat(parts, ignore_index=True)


def _rows(played: Played, target: float) -> pd.DataFrame:
    return pd.DataFrame({
        "target": target, "episode": np.arange(len(played.length)),
        "return": played.returns.astype(float), "length": played.length.astype(int),
        "success": (played.outcome == Outcome.SUCCESS).astype(float),
    })  # fmt: skip


def followed(table: pd.DataFrame) -> pd.DataFrame:
    """By how much of its offset the clock shortens each episode: 1 if it is what counts, 0 if it is not read.

    Returns:
        One row an episode and offset where the prediction is possible: model, how, offset, target, episode,
        share. The same episode meets the same world and random numbers with every clock.
    """
    keys = ["model", "how", "target", "episode"]
    before = table[table.offset == 0].set_index(keys).length.rename("before")
    rows = table[(table.offset != 0) & table.possible].join(before, on=keys)
    share = (rows.before - rows.length) / rows.offset
    return rows[["model", "how", "offset", "target", "episode"]].assign(share=share)
