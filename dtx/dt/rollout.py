"""Play environments with a Decision Transformer: batched, every distinct context computed once.

An edited model says what its edits depend on (:mod:`dtx.dt.edits`): contexts are computed once only where
equal ones are edited alike.

Letters: n environments, one episode each; t timesteps of a context; a actions; r targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import torch

from dtx.dataset.episodes import Outcome
from dtx.dt.context import Context
from dtx.dt.edits import Depends
from dtx.dt.history import History
from dtx.dt.incremental import Acting, Player, contexts_kept
from dtx.dt.model import DecisionTransformerModel
from dtx.env.decision import Decision
from dtx.env.vector import Stacked, VectorEnv


class Place(Protocol):
    """What episodes are played in: an environment, or one that records them."""

    @property
    def horizon(self) -> int:
        """Steps allowed in an episode."""
        ...

    def vector(self, n: int, seed: int) -> VectorEnv:
        """n copies."""
        ...


@dataclass(frozen=True)
class Played:
    """One episode an environment.

    Attributes:
        reward_to_go: (n,) float32 target given at the start.
        returns: (n,) float32 sum of rewards. length: (n,) int64 steps.
        outcome: (n,) uint8: 0 success, 1 ended without reward, 2 out of time.
        first_observation: (n, 7, 7, 3) uint8.
    """

    reward_to_go: np.ndarray
    returns: np.ndarray
    length: np.ndarray
    outcome: np.ndarray
    first_observation: np.ndarray

    def part(self, which: slice) -> Played:
        """Some of the episodes."""
        return Played(*(getattr(self, field.name)[which] for field in fields(self)))

    def share(self, outcome: int) -> float:
        """Share of the episodes with an outcome."""
        return float((self.outcome == outcome).mean())


@torch.inference_mode()
def rollout(
    model: Player,
    env: VectorEnv,
    reward_to_go: np.ndarray,
    *,
    seed: int,
    temperature: float = 1.0,
    greedy: bool = False,
    episode: np.ndarray | None = None,
) -> Played:
    """Play one episode in every environment.

    The target falls by each reward received. An episode's random numbers depend on ``seed`` and its
    number alone, so episode i meets the same ones at every target and in any batch.

    Args:
        model: In evaluation mode.
        env: n environments, freshly made.
        reward_to_go: (n,) target at the start.
        seed: Of the sampled actions.
        temperature: The logits' divisor when sampling.
        greedy: Take the most probable action instead.
        episode: (n,) numbers of the episodes, for their random numbers; by default 0 ... n-1.
    """
    n, horizon = env.n, env.horizon
    target = np.array(np.broadcast_to(reward_to_go, (n,)), np.float32)
    numbers = np.arange(n) if episode is None else np.asarray(episode)
    uniform = None if greedy else uniforms(seed, numbers, horizon)
    history = History(model.cfg, n, horizon)
    acting = Acting(model, history)
    observations = env.reset()
    first = observations.copy()
    to_go, returns = target.copy(), np.zeros(n, np.float32)
    length, outcome = np.full(n, horizon), np.full(n, Outcome.TRUNCATED, np.uint8)
    playing = np.arange(n)
    for step in range(horizon):
        history.see(observations, to_go)
        logits = acting.logits(playing)
        actions = np.zeros(n, np.int64)
        if uniform is None:
            actions[playing] = logits.argmax(1)
        else:
            actions[playing] = _sample(logits / temperature, uniform[playing, step])
        history.act(actions)
        result = env.step(actions)
        reward = result.reward[playing]
        returns[playing] += reward
        to_go[playing] -= reward
        ended = result.terminated[playing] | result.truncated[playing]
        over = playing[ended]
        length[over] = step + 1
        right = result.terminated[over] & (result.reward[over] > 0)
        outcome[over] = np.where(
            right,
            Outcome.SUCCESS,
            np.where(result.terminated[over], Outcome.WRONG, Outcome.TRUNCATED),
        )
        playing = playing[~ended]
        if not len(playing):
            break
        observations = result.observations
    return Played(target, returns, length.astype(np.int64), outcome, first)


def rollouts(
    model: Player,
    env: Place,
    targets: Sequence[float],
    *,
    episodes: int,
    seed: int,
    temperature: float = 1.0,
    greedy: bool = False,
) -> list[Played]:
    """Play ``episodes`` episodes at each target, the same worlds and random numbers at each.

    Args:
        env: Where (not a vector of copies).
        targets: Reward-to-go at the start, (r,).

    Returns:
        One :class:`Played` a target.
    """
    kept = contexts_kept(model, env.horizon)
    together = len(targets) if kept is None else max(1, kept // episodes)
    if model.depends is Depends.batch:
        together = 1  # the batch is the episodes at one target, whatever the others are
    parts = []
    for begin in range(0, len(targets), together):
        chosen = targets[begin : begin + together]
        vector = Stacked([env.vector(episodes, seed) for _ in chosen])
        start = np.repeat(np.asarray(chosen, np.float32), episodes)
        numbers = np.tile(np.arange(episodes), len(chosen))
        played = rollout(
            model, vector, start, seed=seed, temperature=temperature, greedy=greedy, episode=numbers
        )
        vector.close()
        parts += [played.part(slice(i * episodes, (i + 1) * episodes)) for i in range(len(chosen))]
    return parts


def greedy_by_layout(
    model: DecisionTransformerModel, decision: Decision, targets: Sequence[float]
) -> np.ndarray:
    """Outcome of the greedy episode in every layout.

    Returns:
        (r, layouts) uint8.
    """
    layouts = len(decision.layouts)
    vector = decision.vector(np.tile(np.arange(layouts), len(targets)).tolist(), 0)
    start = np.repeat(np.asarray(targets, np.float32), layouts)
    played = rollout(model, vector, start, seed=0, greedy=True)
    vector.close()
    return played.outcome.reshape(len(targets), layouts)


@torch.inference_mode()
def decision_probabilities(
    model: DecisionTransformerModel, decision: Decision, targets: Sequence[float]
) -> np.ndarray:
    """Action probabilities at the decision square when the routine was followed up to it.

    Args:
        decision: Of the environment: its layouts, and the routine.
        targets: Reward-to-go given from the start, (r,).

    Returns:
        (r, layouts, a) float64. ``decision.turns(layouts)`` gives the right and the wrong action.
    """
    contexts = decision_contexts(model, decision, targets)
    return _softmax(np.stack([model.last_logits(c).double().numpy() for c in contexts]))


def decision_contexts(
    model: DecisionTransformerModel, decision: Decision, targets: Sequence[float]
) -> list[Context]:
    """What the model sees at the decision square in every layout, one batch a target; see above."""
    layouts = list(range(len(decision.layouts)))
    routines = [decision.routine(layout) for layout in layouts]
    vector = decision.vector(layouts, 0)
    seen, taken = [vector.reset().copy()], []
    for step in range(decision.step):
        taken.append(np.array([routine[step] for routine in routines]))
        seen.append(vector.step(taken[-1]).observations.copy())
    vector.close()
    contexts = []
    for target in targets:
        history = History(model.cfg, len(layouts), len(seen))
        for step, observations in enumerate(seen):
            history.see(observations, np.full(len(layouts), target, np.float32))
            if step < len(taken):
                history.act(taken[step])
        contexts.append(history.context(np.array(layouts)))
    return contexts


def uniforms(seed: int, episode: np.ndarray, horizon: int) -> np.ndarray:
    """(n, horizon) numbers in [0, 1) that depend on seed and episode number alone."""
    distinct_e, index = np.unique(episode, return_inverse=True)
    keys = (np.array([seed, e], np.uint64) for e in distinct_e)
    return np.stack([np.random.Generator(np.random.Philox(key=k)).random(horizon) for k in keys])[
        index
    ]


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponential = np.exp(logits - logits.max(-1, keepdims=True))
    return exponential / exponential.sum(-1, keepdims=True)


def _sample(logits: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Actions (n,) whose cumulative probability first exceeds the uniform numbers (n,)."""
    cumulative = _softmax(logits).cumsum(-1)
    return np.minimum((cumulative <= uniform[:, None]).sum(-1), logits.shape[1] - 1)
