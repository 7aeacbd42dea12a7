"""Policies in all poses, and sampled episodes, as tables.

Letters: r targets, y layouts, p poses, a actions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from dtx.analysis.core.recorder import Recorder, looks_back
from dtx.analysis.core.windows import distinct_inputs
from dtx.analysis.psychology.poses import FORWARD, LEFT, RIGHT, Poses, contexts, reach
from dtx.analysis.psychology.spec import TRAINED, PsychologySpec
from dtx.dataset.episodes import Outcome
from dtx.dt.incremental import CHUNK
from dtx.dt.load import untrained_like
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.rollout import rollout
from dtx.env.decision import Decision
from dtx.progress import progress
from dtx.training.threads import one_thread


@dataclass(frozen=True)
class PolicyMeasures:
    """Policies and episodes.

    Attributes:
        states: One row a model, target, layout and pose: x, y, direction, steps, on_routine, entropy
            (nats), top_action, confidence, left, right, forward, non_kinetic (probabilities).
        divergence: One row a model, target and pose: mean Jensen-Shannon divergence over pairs of
            layouts that ask for different turns, in nats.
        play: One row a target and layout: share of sampled episodes that look back, return, outcomes.
        probability: (r, y, p, a) float64 of the trained model.
        poses: Where.
        sum_error: By how much probabilities fail to add up to 1.
        self_divergence: Largest divergence of a policy from itself.
        distinct: Distinct windows.
    """

    states: pd.DataFrame
    divergence: pd.DataFrame
    play: pd.DataFrame
    probability: np.ndarray
    poses: Poses
    sum_error: float
    self_divergence: float
    distinct: int


def measure(
    spec: PsychologySpec, model: DecisionTransformerModel, decision: Decision
) -> PolicyMeasures:
    """Compute the policies of the model and of untrained ones, then play."""
    poses = reach(decision, model.cfg.n_steps - 1)
    models = {TRAINED: model}
    models |= {
        f"untrained {i}": untrained_like(model, spec.seed + i) for i in range(spec.untrained)
    }
    policy_of, states, divergence, sums, selves = {}, [], [], [], []
    with one_thread(), progress("psychology", len(models) + 1, "models") as bar:
        for name, each in models.items():
            probability, distinct = policy_of[name] = policies(each, poses, spec.targets)
            sums.append(np.abs(probability.sum(-1) - 1).max())
            selves.append(np.abs(jensen_shannon(probability, probability)).max())
            rows = states_of(spec, decision, poses, probability)
            states.append(rows.assign(model=name))
            rows = divergence_of(spec, decision, poses, probability)
            divergence.append(rows.assign(model=name))
            bar.advance(1, name)
        played = play(spec, model, decision)
        bar.advance(1, "episodes")
    probability, distinct = policy_of[TRAINED]
    return PolicyMeasures(
        states=pd.concat(states, ignore_index=True),
        divergence=pd.concat(divergence, ignore_index=True),
        play=played,
        probability=probability,
        poses=poses,
        sum_error=float(np.max(sums)),  # not Python's max, which may pass over what is no number
        self_divergence=float(np.max(selves)),
        distinct=distinct,
    )


@torch.inference_mode()
def policies(
    model: DecisionTransformerModel, poses: Poses, targets: tuple[float, ...]
) -> tuple[np.ndarray, int]:
    """Action probabilities (r, y, p, a) float64, and the number of distinct windows."""
    shape = (len(targets), len(poses.observations), len(poses.pose), model.cfg.n_actions)
    probability, distinct = np.zeros(shape), 0
    for here, context in contexts(model, poses, targets):
        parts = [
            model.last_logits(context[slice(begin, begin + CHUNK)]).double()
            for begin in range(0, len(context), CHUNK)
        ]
        chances = torch.cat(parts).softmax(-1).numpy()
        probability[:, :, here] = chances.reshape(*shape[:2], len(here), -1)
        distinct += distinct_inputs(context)
    return probability, distinct


def entropy(p: np.ndarray) -> np.ndarray:
    """In nats, over the last axis."""
    return -(p * np.log(np.maximum(p, 1e-300))).sum(-1)


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence in nats, over the last axis; 0 to ln 2."""
    return entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2


def opposed(decision: Decision) -> list[tuple[int, int]]:
    """Pairs of layouts that ask for different turns."""
    layouts = range(len(decision.layouts))
    turn, _ = decision.turns(layouts)
    return [(i, j) for i in layouts for j in layouts if i < j and turn[i] != turn[j]]


def _pose_columns(poses: Poses) -> dict[str, list]:
    x, y, direction = zip(*poses.pose, strict=True)
    steps = [len(a) for a in poses.actions]
    return {"x": list(x), "y": list(y), "direction": list(direction), "steps": steps}


def states_of(
    spec: PsychologySpec, decision: Decision, poses: Poses, probability: np.ndarray
) -> pd.DataFrame:
    """The policy in every pose; see :class:`PolicyMeasures`."""
    r, layouts, count, _ = probability.shape
    columns = {
        "target": np.repeat(spec.targets, layouts * count),
        "layout": np.tile(np.repeat(decision.layouts, count), r),
        **{k: np.tile(v, r * layouts) for k, v in _pose_columns(poses).items()},
        "on_routine": np.tile(poses.on_routine(decision).ravel(), r),
        "entropy": entropy(probability).ravel(),
        "top_action": probability.argmax(-1).ravel(),
        "confidence": probability.max(-1).ravel(),
        "left": probability[..., LEFT].ravel(),
        "right": probability[..., RIGHT].ravel(),
        "forward": probability[..., FORWARD].ravel(),
        "non_kinetic": probability[..., FORWARD + 1 :].sum(-1).ravel(),
    }
    return pd.DataFrame(columns)


def divergence_of(
    spec: PsychologySpec, decision: Decision, poses: Poses, probability: np.ndarray
) -> pd.DataFrame:
    """Divergence of opposed layouts in every pose; see :class:`PolicyMeasures`."""
    pairs = opposed(decision)
    each = [jensen_shannon(probability[:, i], probability[:, j]) for i, j in pairs]
    ways = {tuple(decision.routine(y)[: decision.step]) for y in range(len(decision.layouts))}
    before_turn = [any(way[: len(a)] == a for way in ways) for a in poses.actions]
    columns = {
        "target": np.repeat(spec.targets, len(poses.pose)),
        **{k: np.tile(v, len(spec.targets)) for k, v in _pose_columns(poses).items()},
        "before_turn": np.tile(before_turn, len(spec.targets)),
        "divergence": np.mean(each, 0).ravel(),
    }
    return pd.DataFrame(columns)


def play(spec: PsychologySpec, model: DecisionTransformerModel, decision: Decision) -> pd.DataFrame:
    """Sampled episodes at every target in every layout; see :class:`PolicyMeasures`."""
    names = decision.layouts
    layout = np.tile(np.repeat(np.arange(len(names)), spec.episodes), len(spec.targets))
    target = np.repeat(spec.targets, len(names) * spec.episodes)
    env = Recorder(decision.vector(layout.tolist(), spec.seed))
    numbers = np.arange(len(layout)) % (len(names) * spec.episodes)
    played = rollout(model, env, target, seed=spec.seed, episode=numbers)
    env.close()
    actions = np.stack(env.actions, 1)
    past_end = np.arange(actions.shape[1]) >= played.length[:, None]
    table = pd.DataFrame(
        {
            "target": target,
            "layout": np.array(names)[layout],
            "looks_back": looks_back(actions, played.length),
            "return": played.returns,
            "success": played.outcome == Outcome.SUCCESS,
            "wrong": played.outcome == Outcome.WRONG,
            "truncated": played.outcome == Outcome.TRUNCATED,
            "actions": [row.tobytes() for row in np.where(past_end, 255, actions).astype(np.uint8)],
        }
    )
    grouped = table.groupby(["target", "layout"], sort=False)
    means = grouped[["looks_back", "return", "success", "wrong", "truncated"]].mean()
    means["episodes"], means["distinct_episodes"] = grouped.size(), grouped.actions.nunique()
    return means.reset_index()
