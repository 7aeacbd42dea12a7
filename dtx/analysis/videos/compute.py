"""From recorded episodes to a result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dtx.analysis.core.result import Result
from dtx.analysis.core.untrained import TWINS, seen_in, twins
from dtx.analysis.core.verdicts import Check, Control, Relation
from dtx.analysis.videos.play import Episode, Plays, play
from dtx.analysis.videos.spec import VideosSpec
from dtx.dataset.episodes import OUTCOMES
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.rollout import rollout
from dtx.env.actions import ACTIONS
from dtx.env.environment import Environment
from dtx.statistics import next_estimate

TOLERANCE = 1e-9


def compute(spec: VideosSpec, model: DecisionTransformerModel, env: Environment) -> Result:
    """Play and record.

    Args:
        spec: What is asked for, and where.
        model: Any that fits the environment.
        env: Where it acts.

    Returns:
        Tables ``steps``: one row a step of each episode (layout, target, step, reward_to_go, action, reward,
        a column ``p_NAME`` an action, scene); ``ends``: one row an episode (layout, target, steps, return,
        outcome, scene). Arrays by scene: ``grids`` (k, w, h, 3) uint8 and ``seen`` (k, w, h) bool; ``agents``
        (k, 3) int64: column, row, direction.
    """
    places = [(layout, target) for layout in spec.layouts for target in spec.targets]
    settings = {"seed": spec.seed, "greedy": spec.greedy}
    played = play(model, env, places, **settings)
    episodes = played.episodes
    taken = [episode.actions for episode in episodes]
    again = play(model, env, places, actions=taken, **settings).episodes
    checks = [
        Check(
            name="the recorded actions, taken again, give the same worlds and rewards",
            error=float(sum(not _same(*pair) for pair in zip(episodes, again, strict=True))),
            tolerance=0,
        ),
        Check(
            name="probabilities add up to 1, and are the same when they are computed again",
            error=_deviation(episodes, again),
            tolerance=TOLERANCE,
        ),
    ]
    if env.decision is not None:
        checks.append(
            Check(
                name="the returns are those of the episodes that every analysis plays",
                error=_against_rollout(spec, model, env, places, episodes),
                tolerance=1e-6,
            )
        )
    sure = _confidence(episodes)
    twin_confidence = [
        _confidence(play(twin, env, places, actions=taken, **settings).episodes)
        for twin in twins(model, TWINS, spec.seed, seen_in(played.contexts))
    ]
    steps, ends, scenes = _tables(env, played)
    return Result(
        finding=_finding(spec, ends),
        metrics={
            **_returns(spec, ends),
            "confidence": sure,
            "confidence_untrained": float(np.mean(twin_confidence)),
            "steps": float(len(steps)),
        },
        checks=checks,
        controls=[
            Control.of(
                "mean probability of the most probable action, untrained models in the same states",
                next_estimate(twin_confidence),
                Relation.BELOW,
                sure,
            )
        ],
        tables={"steps": steps, "ends": ends},
        arrays=scenes,
        distinct_inputs=len({context for e in episodes for context in e.contexts}),
    )


def _same(one: Episode, other: Episode) -> bool:
    worlds = all(a.same(b) for a, b in zip(one.scenes, other.scenes, strict=True))
    return worlds and (one.rewards, one.outcome) == (other.rewards, other.outcome)


def _deviation(episodes: Sequence[Episode], again: Sequence[Episode]) -> float:
    first = np.concatenate([episode.probabilities for episode in episodes])
    second = np.concatenate([episode.probabilities for episode in again])
    return float(max(np.abs(first.sum(1) - 1).max(), np.abs(first - second).max()))


def _against_rollout(
    spec: VideosSpec,
    model: DecisionTransformerModel,
    env: Environment,
    places: Sequence[tuple[int, float]],
    episodes: Sequence[Episode],
) -> float:
    """The largest difference of returns and lengths from those of :func:`dtx.dt.rollout.rollout`."""
    assert env.decision is not None
    layouts = [layout for layout, _ in places]
    vector = env.decision.vector(layouts, spec.seed)
    targets = np.array([target for _, target in places], np.float32)
    played = rollout(
        model, vector, targets, seed=spec.seed, greedy=spec.greedy, episode=np.array(layouts)
    )
    vector.close()
    returns = np.array([episode.total for episode in episodes])
    lengths = np.array([len(episode.actions) for episode in episodes])
    return float(max(np.abs(returns - played.returns).max(), np.abs(lengths - played.length).max()))


def _confidence(episodes: Sequence[Episode]) -> float:
    """Mean probability of the most probable action over distinct contexts."""
    sure = {
        context: float(chances.max())
        for episode in episodes
        for context, chances in zip(episode.contexts, episode.probabilities, strict=True)
    }
    return float(np.mean(list(sure.values())))


def _tables(
    env: Environment, played: Plays
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, np.ndarray]]:
    names = action_names(env.n_actions)
    known: dict[tuple, int] = {}
    scenes, steps, ends = [], [], []
    for episode in played.episodes:
        indices = []
        for each in episode.scenes:
            key = (each.grid.tobytes(), each.seen.tobytes(), each.agent)
            if key not in known:
                known[key] = len(known)
                scenes.append(each)
            indices.append(known[key])
        layout = env.decision.layouts[episode.layout] if env.decision else f"world {episode.layout}"
        where = {"layout": layout, "target": float(episode.target)}
        for step, action in enumerate(episode.actions):
            chances = dict(
                zip([f"p_{name}" for name in names], episode.probabilities[step], strict=True)
            )
            steps.append(
                {
                    **where,
                    "step": step,
                    "reward_to_go": episode.to_go[step],
                    "action": names[action],
                    "reward": episode.rewards[step],
                    **chances,
                    "carries": episode.scenes[step].carries,
                    "scene": indices[step],
                }
            )
        ends.append(
            {
                **where,
                "steps": len(episode.actions),
                "return": episode.total,
                "outcome": OUTCOMES[episode.outcome],
                "scene": indices[-1],
            }
        )
    arrays = {
        "grids": np.stack([each.grid for each in scenes]).astype(np.uint8),
        "seen": np.stack([each.seen for each in scenes]),
        "agents": np.array([each.agent for each in scenes], np.int64),
    }
    return pd.DataFrame(steps), pd.DataFrame(ends), arrays


def action_names(count: int) -> list[str]:
    """Names of the actions; of those that MiniGrid does not know the number."""
    return [ACTIONS[i] if i < len(ACTIONS) else f"action {i}" for i in range(count)]


def _returns(spec: VideosSpec, ends: pd.DataFrame) -> dict[str, float]:
    """Mean return over layouts at the lowest and the highest target."""
    means = ends.groupby("target")["return"].mean()
    return {
        "return_low": float(means[float(min(spec.targets))]),
        "return_high": float(means[float(max(spec.targets))]),
    }


def _finding(spec: VideosSpec, ends: pd.DataFrame) -> str:
    parts = []
    for target, some in ends.groupby("target"):
        counts = some.outcome.value_counts()
        outcomes = ", ".join(f"{count} {name}" for name, count in counts.items())
        parts.append(f"at {target:g} {outcomes} (mean return {some['return'].mean():.2f})")
    how = "most probable actions" if spec.greedy else "sampled actions"
    return f"{how}, {len(ends)} episodes: {'; '.join(parts)}"
