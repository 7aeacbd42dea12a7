"""Playing with an agent: rollouts to learn from, and fresh episodes to evaluate it on.

Axes: t time · n environments · m memory · a actions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dtx.agent.agent import Agent
from dtx.env.vector import VectorEnv


@dataclass(slots=True)
class Rollout:
    """What n environments did for t steps.

    Attributes:
        observations: (t, n, 7, 7, 3) uint8, what each action was chosen from.
        actions: (t, n) int64.
        log_probs: (t, n) float32, of the actions taken.
        values: (t, n) float32.
        rewards: (t, n) float32.
        next_values: (t, n) float32, what each step bootstraps from: the next frame's value; 0 where the
            task ended the episode; the final observation's value where the step limit did.
        begins: (t, n) bool, the frame begins an episode.
        ended: (t, n) bool, the frame's step ended its episode.
        memory: (n, m) float32, before the first frame.
        lengths: (episodes,) int64, of the episodes that ended.
        returns: (episodes,) float32, sums of their rewards.
    """

    observations: np.ndarray
    actions: np.ndarray
    log_probs: np.ndarray
    values: np.ndarray
    rewards: np.ndarray
    next_values: np.ndarray
    begins: np.ndarray
    ended: np.ndarray
    memory: Tensor
    lengths: np.ndarray
    returns: np.ndarray


class Collector:
    """Plays n environments continuously and keeps their state between calls.

    Args:
        env: The environments, which are reset here.
        agent: Whose actions and values.
    """

    def __init__(self, env: VectorEnv, agent: Agent):
        self.env, self.agent = env, agent
        self.observations = env.reset()
        self.memory = agent.initial_memory(env.n)
        self.begins = np.ones(env.n, dtype=bool)
        self._return = np.zeros(env.n, dtype=np.float32)
        self._length = np.zeros(env.n, dtype=np.int64)

    @torch.no_grad()
    def collect(self, steps: int, generator: torch.Generator) -> Rollout:
        """Play ``steps`` steps everywhere, sampling actions."""
        env, n = self.env, self.env.n
        grid = (steps, n)
        observations = np.empty((*grid, 7, 7, 3), dtype=np.uint8)
        actions = np.empty(grid, dtype=np.int64)
        log_probs, values, rewards, next_values = np.zeros((4, *grid), dtype=np.float32)
        begins, terminated, truncated = np.zeros((3, *grid), dtype=bool)
        first_memory = self.memory
        lengths, returns = [], []
        for t in range(steps):
            observations[t], begins[t] = self.observations, self.begins
            logits, value, memory = self.agent.step(self.observations, self.memory)
            log_prob = torch.log_softmax(logits, dim=1)
            action = torch.multinomial(log_prob.exp(), 1, generator=generator)
            actions[t] = action.squeeze(1).numpy()
            log_probs[t] = log_prob.gather(1, action).squeeze(1).numpy()
            values[t] = value.numpy()
            step = env.step(actions[t])
            rewards[t], terminated[t], truncated[t] = step.reward, step.terminated, step.truncated
            self._return += step.reward
            self._length += 1
            over = np.flatnonzero(step.truncated)
            if len(over):
                # A step limit is not part of the task: the return after it is estimated by the value.
                last = step.final_observations[over]
                next_values[t, over] = self.agent.step(last, memory[over])[1].numpy()
            ended = np.flatnonzero(step.ended)
            if len(ended):
                lengths.append(self._length[ended])
                returns.append(self._return[ended])
                self._length[ended], self._return[ended] = 0, 0
                memory[ended] = self.agent.initial_memory(len(ended))
            self.observations, self.memory, self.begins = step.observations, memory, step.ended
        after = self.agent.step(self.observations, self.memory)[1].numpy()
        going_on = np.concatenate([values[1:], after[None]])
        ended = terminated | truncated
        return Rollout(
            observations=observations,
            actions=actions,
            log_probs=log_probs,
            values=values,
            rewards=rewards,
            next_values=np.where(ended, next_values, going_on),
            begins=begins,
            ended=ended,
            memory=first_memory,
            lengths=np.concatenate(lengths) if lengths else np.empty(0, dtype=np.int64),
            returns=np.concatenate(returns) if returns else np.empty(0, dtype=np.float32),
        )


def advantages(rollout: Rollout, gamma: float, gae_lambda: float) -> np.ndarray:
    """Generalised advantage estimates, (t, n) float32.

    Source: Schulman et al. 2016, https://arxiv.org/abs/1506.02438, equation 16; the sum stops where an
    episode ends; the return beyond a step limit or the rollout's end is estimated by the value.
    """
    delta = rollout.rewards + gamma * rollout.next_values - rollout.values
    estimate = np.empty_like(delta)
    running = np.zeros(delta.shape[1], dtype=np.float32)
    for t in reversed(range(len(delta))):
        running = delta[t] + np.where(rollout.ended[t], 0, gamma * gae_lambda * running)
        estimate[t] = running
    return estimate


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How fresh episodes ended.

    Attributes:
        episodes: How many.
        success: Share that the task ended with a reward.
        wrong: Share that the task ended without.
        truncated: Share that the step limit ended.
        length: Mean steps.
        mean_return: Mean sum of rewards.
    """

    episodes: int
    success: float
    wrong: float
    truncated: float
    length: float
    mean_return: float


@torch.no_grad()
def measure(
    agent: Agent, env: VectorEnv, episodes: int, temperature: float, generator: torch.Generator
) -> Outcomes:
    """Play fresh episodes, sampling from softmax(logits / temperature), and count how they end.

    Every environment plays equally many: taking those that end first would favour short episodes.

    Args:
        agent: Who plays.
        env: Environments, which are reset here.
        episodes: At least this many (rounded up to a multiple of ``env.n``).
        temperature: Above 0.
        generator: For the actions.
    """
    wanted = -(-episodes // env.n)
    observations, memory = env.reset(), agent.initial_memory(env.n)
    played = np.zeros(env.n, dtype=np.int64)
    total = np.zeros(env.n)
    counts = dict.fromkeys(("success", "wrong", "truncated", "length", "mean_return"), 0.0)
    while (counted := played < wanted).any():
        logits, _, memory = agent.step(observations, memory)
        probs = torch.softmax(logits / temperature, dim=1)
        step = env.step(torch.multinomial(probs, 1, generator=generator).squeeze(1).numpy())
        total += step.reward
        good = step.reward > 0
        counts["length"] += counted.sum()
        counts["mean_return"] += step.reward[counted].sum()
        counts["success"] += (counted & step.terminated & good).sum()
        counts["wrong"] += (counted & step.terminated & ~good).sum()
        counts["truncated"] += (counted & step.truncated).sum()
        ended = np.flatnonzero(step.ended)
        played[ended] += 1
        memory[ended] = agent.initial_memory(len(ended))
        observations = step.observations
    n = wanted * env.n
    return Outcomes(n, **{name: float(count) / n for name, count in counts.items()})
