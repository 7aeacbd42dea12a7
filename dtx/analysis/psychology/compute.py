"""Policies in all poses and sampled episodes, as tables.

Letters: r targets, y layouts, p poses, a actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from dtx.analysis.core.inputs import distinct_inputs
from dtx.analysis.psychology import Psychology
from dtx.analysis.psychology.states import BACK, FORWARD, LEFT, RIGHT, Poses, contexts, reach
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.provider import load_at, untrained_like
from dtx.dt.rollout import CHUNK, rollout
from dtx.env.vector import Step, VectorEnv
from dtx.progress import progress
from dtx.training.threads import one_thread

TRAINED = "trained"


@dataclass
class Results:
    """What was found.

    Attributes:
        states: One row a model, target, layout and pose: x, y, direction, steps, on_routine, entropy
            (nats), top_action, confidence, left, right, forward, non_kinetic (probabilities).
        divergence: One row a model, target and pose: mean Jensen-Shannon divergence over pairs of
            layouts that ask for different turns, in nats.
        play: One row a target and layout: share of sampled episodes that look back, return, outcomes.
        probability: (r, y, p, a) float64 of the trained model.
        poses: Where.
        error: By how much probabilities fail to add to 1, and by how much the divergence of a layout
            with itself fails to be 0.
        distinct: Distinct windows.
    """

    states: pd.DataFrame
    divergence: pd.DataFrame
    play: pd.DataFrame
    probability: np.ndarray
    poses: Poses
    error: float
    distinct: int


def measure(stage: Psychology) -> Results:
    """Compute all policies, then play."""
    model = load_at(stage.dt, stage.checkpoint, stage.env, plays=True)
    poses = reach(stage.env, model.cfg.n_steps - 1)
    models = {TRAINED: model}
    models |= {
        f"untrained {i}": untrained_like(model, stage.seed + i) for i in range(stage.untrained)
    }
    states, divergence, error = [], [], 0.0
    with one_thread(), progress("psychology", len(models) + 1, "models") as bar:
        for name, each in models.items():
            probability, distinct = policies(each, poses, stage.targets)
            own = jensen_shannon(probability, probability)
            error = max(error, np.abs(probability.sum(-1) - 1).max(), np.abs(own).max())
            states.append(_states(stage, poses, probability).assign(model=name))
            divergence.append(_divergence(stage, poses, probability).assign(model=name))
            if name == TRAINED:
                mine, count = probability, distinct
            bar.advance(1, name)
        played = _play(stage, model)
        bar.advance(1, "episodes")
    return Results(
        states=pd.concat(states, ignore_index=True),
        divergence=pd.concat(divergence, ignore_index=True),
        play=played,
        probability=mine,
        poses=poses,
        error=float(error),
        distinct=count,
    )


@torch.inference_mode()
def policies(
    model: DecisionTransformerModel, poses: Poses, targets: tuple[float, ...]
) -> tuple[np.ndarray, int]:
    """Action probabilities (r, y, p, a) float64, and the number of distinct windows."""
    shape = (len(targets), len(poses.observations), len(poses.pose), model.cfg.n_actions)
    found, distinct = np.zeros(shape), 0
    for mine, context in contexts(model, poses, targets):
        parts = [
            model.last_logits(context[slice(begin, begin + CHUNK)]).double()
            for begin in range(0, len(context), CHUNK)
        ]
        chances = torch.cat(parts).softmax(-1).numpy()
        found[:, :, mine] = chances.reshape(*shape[:2], len(mine), -1)
        distinct += distinct_inputs(context)
    return found, distinct


def entropy(p: np.ndarray) -> np.ndarray:
    """In nats, over the last axis."""
    return -(p * np.log(np.maximum(p, 1e-300))).sum(-1)


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence in nats, over the last axis; 0 to ln 2."""
    return entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2


def opposed(env: Any) -> list[tuple[int, int]]:
    """Pairs of layouts that ask for different turns."""
    layouts = range(len(env.layouts()))
    turn = np.asarray(env.correct_turn(np.arange(len(layouts))))
    return [(i, j) for i in layouts for j in layouts if i < j and turn[i] != turn[j]]


def _pose_columns(poses: Poses) -> dict[str, list]:
    x, y, direction = zip(*poses.pose, strict=True)
    steps = [len(a) for a in poses.actions]
    return {"x": list(x), "y": list(y), "direction": list(direction), "steps": steps}


def _states(stage: Psychology, poses: Poses, probability: np.ndarray) -> pd.DataFrame:
    r, layouts, count, _ = probability.shape
    names = stage.env.layouts()  # type: ignore[attr-defined]
    columns = {
        "target": np.repeat(stage.targets, layouts * count),
        "layout": np.tile(np.repeat(names, count), r),
        **{k: np.tile(v, r * layouts) for k, v in _pose_columns(poses).items()},
        "on_routine": np.tile(poses.on_routine(stage.env).ravel(), r),
        "entropy": entropy(probability).ravel(),
        "top_action": probability.argmax(-1).ravel(),
        "confidence": probability.max(-1).ravel(),
        "left": probability[..., LEFT].ravel(),
        "right": probability[..., RIGHT].ravel(),
        "forward": probability[..., FORWARD].ravel(),
        "non_kinetic": probability[..., FORWARD + 1 :].sum(-1).ravel(),
    }
    return pd.DataFrame(columns)


def _divergence(stage: Psychology, poses: Poses, probability: np.ndarray) -> pd.DataFrame:
    pairs = opposed(stage.env)
    each = [jensen_shannon(probability[:, i], probability[:, j]) for i, j in pairs]
    straight = (FORWARD,) * stage.env.decision_step  # type: ignore[attr-defined]
    columns = {
        "target": np.repeat(stage.targets, len(poses.pose)),
        **{k: np.tile(v, len(stage.targets)) for k, v in _pose_columns(poses).items()},
        "before_turn": np.tile(
            [straight[: len(a)] == a for a in poses.actions], len(stage.targets)
        ),
        "divergence": np.mean(each, 0).ravel(),
    }
    return pd.DataFrame(columns)


class Recorder:
    """A vector environment that remembers the actions."""

    def __init__(self, env: VectorEnv):
        self.env, self.n, self.n_actions, self.horizon = env, env.n, env.n_actions, env.horizon
        self.actions: list[np.ndarray] = []

    def reset(self) -> np.ndarray:
        """Begin a new episode everywhere."""
        self.actions = []
        return self.env.reset()

    def step(self, actions: np.ndarray) -> Step:
        """Act once everywhere."""
        self.actions.append(np.array(actions))
        return self.env.step(actions)

    def close(self) -> None:
        """Free the environments."""
        self.env.close()


def looks_back(actions: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Whether an episode (n, t) faces opposite to its start at some time before it ends, (n,) bool."""
    turns = (actions == RIGHT).astype(int) - (actions == LEFT)
    facing = turns.cumsum(1) % 4
    return ((facing == BACK) & (np.arange(actions.shape[1]) < length[:, None])).any(1)


def _play(stage: Psychology, model: DecisionTransformerModel) -> pd.DataFrame:
    names = stage.env.layouts()  # type: ignore[attr-defined]
    layout = np.tile(np.repeat(np.arange(len(names)), stage.episodes), len(stage.targets))
    target = np.repeat(stage.targets, len(names) * stage.episodes)
    world = stage.env.vector(len(layout), stage.seed, layouts=layout.tolist())  # type: ignore[call-arg]
    env = Recorder(world)
    numbers = np.arange(len(layout)) % (len(names) * stage.episodes)
    played = rollout(model, env, target, seed=stage.seed, episode=numbers)
    env.close()
    actions = np.stack(env.actions, 1)
    past_end = np.arange(actions.shape[1]) >= played.length[:, None]
    table = pd.DataFrame(
        {
            "target": target,
            "layout": np.array(names)[layout],
            "looks_back": looks_back(actions, played.length),
            "return": played.returns,
            "success": played.outcome == 0,
            "wrong": played.outcome == 1,
            "truncated": played.outcome == 2,
            "actions": [row.tobytes() for row in np.where(past_end, 255, actions).astype(np.uint8)],
        }
    )
    grouped = table.groupby(["target", "layout"], sort=False)
    means = grouped[["looks_back", "return", "success", "wrong", "truncated"]].mean()
    means["episodes"], means["distinct_episodes"] = grouped.size(), grouped.actions.nunique()
    return means.reset_index()
