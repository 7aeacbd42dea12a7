"""Policies of a teacher, a model and an n-gram model at every step of recorded episodes.

Letters: e episodes, t steps, s states (steps of all episodes, one after the other), a actions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from dtx.agent.agent import Agent
from dtx.dataset.episodes import Episodes, Split
from dtx.dt.history import History
from dtx.dt.incremental import Acting
from dtx.dt.model import DecisionTransformerModel


@dataclass(frozen=True)
class HeldOutEpisodes:
    """Held-out episodes as a rectangle.

    Attributes:
        observation: (e, t) row of ``observations``. action: (e, t). reward_to_go: (e, t).
        length: (e,). observations: (u, 7, 7, 3).
    """

    observation: np.ndarray
    action: np.ndarray
    reward_to_go: np.ndarray
    length: np.ndarray
    observations: np.ndarray

    @property
    def real(self) -> np.ndarray:
        """(e, t) bool: the step happened."""
        return np.arange(self.observation.shape[1]) < self.length[:, None]


def held_out(episodes: Episodes, count: int, seed: int) -> HeldOutEpisodes:
    """Validation episodes, or training ones where none was held out."""
    chosen = np.flatnonzero(episodes.split == Split.VALIDATION)
    if not len(chosen):
        chosen = np.arange(len(episodes.start))
    chosen = np.sort(np.random.default_rng(seed).permutation(chosen)[:count])
    start, length = np.asarray(episodes.start)[chosen], np.asarray(episodes.length)[chosen]
    step = np.minimum(np.arange(length.max()), length[:, None] - 1)
    row = start[:, None] + step
    return HeldOutEpisodes(
        observation=episodes.observation[row],
        action=episodes.action[row].astype(np.int64),
        reward_to_go=episodes.reward_to_go[row],
        length=length,
        observations=np.asarray(episodes.observations),
    )


def first_of(replay: HeldOutEpisodes, count: int) -> HeldOutEpisodes:
    """The first so many episodes."""
    length = replay.length[:count]
    steps = int(length.max())
    return HeldOutEpisodes(
        replay.observation[:count, :steps],
        replay.action[:count, :steps],
        replay.reward_to_go[:count, :steps],
        length,
        replay.observations,
    )


def distinct_episodes(replay: HeldOutEpisodes) -> int:
    """How many of them differ in what was seen or done: a policy that is nearly certain repeats itself."""
    both = np.stack([replay.observation.astype(np.int64), replay.action], -1)
    both[~replay.real] = -1
    return len(np.unique(both.reshape(len(both), -1), axis=0))


@torch.inference_mode()
def teacher_logits(agent: Agent, replay: HeldOutEpisodes) -> np.ndarray:
    """The teacher's logits (s, a) float64 along the episodes, with its own memory of them."""
    memory = agent.initial_memory(len(replay.length))
    parts = []
    for step in range(replay.observation.shape[1]):
        seen = torch.from_numpy(replay.observations[replay.observation[:, step]])
        logits, _, memory = agent.step(seen, memory)
        parts.append(logits.double().numpy())
    return np.stack(parts, 1)[replay.real]


@torch.inference_mode()
def model_policy(
    model: DecisionTransformerModel, replay: HeldOutEpisodes, reward_to_go: np.ndarray
) -> np.ndarray:
    """Log-probabilities (s, a) float64 of the model acting along the episodes; equal contexts once."""
    e, steps = replay.observation.shape
    history = History(model.cfg, e, steps)
    acting = Acting(model, history)
    logits = np.zeros((e, steps, model.cfg.n_actions))
    for step in range(steps):
        history.see(replay.observations[replay.observation[:, step]], reward_to_go[:, step])
        playing = np.flatnonzero(replay.length > step)
        logits[playing, step] = acting.logits(playing)
        history.act(replay.action[:, step])
    return log_softmax(logits[replay.real])


def n_gram(episodes: Episodes, replay: HeldOutEpisodes, order: int, n_actions: int) -> np.ndarray:
    """Log-probabilities (s, a) of the next action from the ``order`` before it, without observations.

    Counts of the training episodes, each order smoothed towards the one below as by one observation of
    it, down to the uniform distribution (Jelinek-Mercer interpolation with count-dependent weights).
    """
    training = np.asarray(episodes.split) == Split.TRAIN
    start, length = np.asarray(episodes.start)[training], np.asarray(episodes.length)[training]
    step = np.minimum(np.arange(length.max()), length[:, None] - 1)
    seen = np.asarray(episodes.action)[start[:, None] + step].astype(np.int64)
    real = np.arange(length.max()) < length[:, None]
    chance = np.full((int(replay.length.sum()), n_actions), 1 / n_actions)
    for used in range(order + 1):
        context, wanted = (_before(a, used, n_actions) for a in (seen, replay.action))
        counts = np.zeros(((n_actions + 1) ** used, n_actions))
        np.add.at(counts, (context[real], seen[real]), 1)
        here = counts[wanted[replay.real]]
        chance = (here + chance) / (here.sum(1, keepdims=True) + 1)
    return np.log(chance)


def _before(action: np.ndarray, used: int, n_actions: int) -> np.ndarray:
    """(e, t) number of the ``used`` actions before each step; before the start stands ``n_actions``."""
    code = np.zeros_like(action)
    for back in range(1, used + 1):
        earlier = np.full_like(action, n_actions)
        earlier[:, back:] = action[:, :-back] if back < action.shape[1] else earlier[:, back:]
        code = code * (n_actions + 1) + earlier
    return code


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
