"""Policies in all poses, and sampled episodes, as tables.

Letters: r targets, y layouts, p poses, a actions, c compared targets (low, high).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from dtx.analysis.core.policies import entropy, jensen_shannon
from dtx.analysis.core.recorder import Recorder, looks_back
from dtx.analysis.core.untrained import twins
from dtx.analysis.psychology.poses import FORWARD, LEFT, RIGHT, Poses, contexts, reach
from dtx.analysis.psychology.spec import TRAINED, PsychologySpec
from dtx.dataset.episodes import Outcome
from dtx.dt.incremental import CHUNK
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.rollout import rollout
from dtx.dt.windows import observation_table
from dtx.env.decision import Decision
from dtx.progress import progress
from dtx.statistics import share_estimate
from dtx.training.threads import one_thread


@dataclass(frozen=True)
class PolicyMeasures:
    """Policies and episodes.

    Attributes:
        states: One row a model, target, layout and pose: x, y, direction, steps, on_routine, entropy
            (nats), top_action, confidence, left, right, forward, non_kinetic (probabilities). Untrained
            models at the low and the high target alone.
        divergence: One row a model, target and pose: mean Jensen-Shannon divergence over pairs of
            layouts that ask for different turns, in nats.
        play: One row a target and layout: share of sampled episodes that look back with its interval,
            return, outcomes.
        probability: (r, y, p, a) float64 of the trained model.
        untrained: (c, y, p, a) of each untrained model.
        poses: Where.
        sum_error: By how much probabilities fail to add up to 1.
        self_divergence: Largest divergence of a policy from itself.
        distinct: Distinct windows.
        reads_it: The model has reward-to-go tokens.
    """

    states: pd.DataFrame
    divergence: pd.DataFrame
    play: pd.DataFrame
    probability: np.ndarray
    untrained: list[np.ndarray]
    poses: Poses
    sum_error: float
    self_divergence: float
    distinct: int
    reads_it: bool


def measure(
    spec: PsychologySpec, model: DecisionTransformerModel, decision: Decision
) -> PolicyMeasures:
    """Compute the policies of the model and of untrained ones, then play."""
    poses = reach(decision, model.cfg.n_steps - 1)
    compared = (spec.low, spec.high)
    policy_of, states, divergence = {}, [], []
    with one_thread(), progress("psychology", spec.untrained + 2, "models") as bar:
        seen = observation_table(poses.seen)[:-1]
        others = enumerate(twins(model, spec.untrained, spec.seed, seen))
        named = itertools.chain(
            [(TRAINED, model)], ((f"untrained {i}", each) for i, each in others)
        )
        for name, each in named:
            targets = spec.targets if name == TRAINED else compared
            probability = policy_of[name] = policies(each, poses, targets)
            states.append(states_of(targets, decision, poses, probability).assign(model=name))
            rows = divergence_of(targets, decision, poses, probability)
            divergence.append(rows.assign(model=name))
            bar.advance(1, name)
        played = play(spec, model, decision)
        bar.advance(1, "episodes")
    known = list(policy_of.values())
    # Not Python's max, which may pass over what is no number.
    return PolicyMeasures(
        states=pd.concat(states, ignore_index=True),
        divergence=pd.concat(divergence, ignore_index=True),
        play=played,
        probability=policy_of.pop(TRAINED),
        untrained=list(policy_of.values()),
        poses=poses,
        sum_error=float(np.max([np.abs(p.sum(-1) - 1).max() for p in known])),
        self_divergence=float(np.max([np.abs(jensen_shannon(p, p)).max() for p in known])),
        distinct=poses.distinct * (len(spec.targets) if model.cfg.reward_to_go else 1),
        reads_it=model.cfg.reward_to_go,
    )


@torch.inference_mode()
def policies(model: DecisionTransformerModel, poses: Poses, targets: Sequence[float]) -> np.ndarray:
    """Action probabilities (r, y, p, a) float64.

    A model that pads on the right sees a pose on the way to another as a part of that way: the logits at
    every state of the longest ways are those of all poses.
    """
    shape = (len(targets), len(poses.observations), len(poses.pose), model.cfg.n_actions)
    probability = np.full(shape, np.nan)
    whole = not model.cfg.left_padding
    for ways, context in contexts(model, poses, targets, poses.ends if whole else None):
        parts = (context[slice(i, i + CHUNK)] for i in range(0, len(context), CHUNK))
        logits = torch.cat([model(part) if whole else model.last_logits(part) for part in parts])
        chances = logits.double().softmax(-1).numpy().reshape(*shape[:2], len(ways), -1, shape[-1])
        for index, way in enumerate(ways):
            for place, step in poses.on_the_way(way) if whole else [(way, 0)]:
                probability[:, :, place] = chances[:, :, index, step]
    return probability


def opposed(decision: Decision) -> list[tuple[int, int]]:
    """Pairs of layouts that ask for different turns."""
    layouts = range(len(decision.layouts))
    turn, _ = decision.turns(layouts)
    return [(i, j) for i in layouts for j in layouts if i < j and turn[i] != turn[j]]


def between_layouts(decision: Decision, probability: np.ndarray) -> np.ndarray:
    """Mean divergence of the policies of layouts that ask for different turns, (r, p)."""
    pairs = opposed(decision)
    each = [jensen_shannon(probability[:, i], probability[:, j]) for i, j in pairs]
    return np.mean(each, 0)


def _pose_columns(poses: Poses) -> dict[str, list]:
    x, y, direction = zip(*poses.pose, strict=True)
    steps = [len(a) for a in poses.actions]
    return {"x": list(x), "y": list(y), "direction": list(direction), "steps": steps}


def states_of(
    targets: Sequence[float], decision: Decision, poses: Poses, probability: np.ndarray
) -> pd.DataFrame:
    """The policy in every pose; see :class:`PolicyMeasures`."""
    r, layouts, count, _ = probability.shape
    columns = {
        "target": np.repeat(targets, layouts * count),
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
    targets: Sequence[float], decision: Decision, poses: Poses, probability: np.ndarray
) -> pd.DataFrame:
    """Divergence of opposed layouts in every pose; see :class:`PolicyMeasures`."""
    ways = {tuple(decision.routine(y)[: decision.step]) for y in range(len(decision.layouts))}
    before_turn = [any(way[: len(a)] == a for way in ways) for a in poses.actions]
    columns = {
        "target": np.repeat(targets, len(poses.pose)),
        **{k: np.tile(v, len(targets)) for k, v in _pose_columns(poses).items()},
        "before_turn": np.tile(before_turn, len(targets)),
        "divergence": between_layouts(decision, probability).ravel(),
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
    back = [share_estimate(int(hits), spec.episodes) for hits in grouped.looks_back.sum()]
    columns = pd.DataFrame([estimate.columns() for estimate in back], means.index)
    return means.join(columns.add_prefix("looks_back_")).reset_index()
