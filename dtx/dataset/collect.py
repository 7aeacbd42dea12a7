"""Play an agent in many environments at once and hand finished episodes to a writer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from dtx.agent.agent import Agent
from dtx.dataset.episodes import EpisodeWriter, Outcome
from dtx.dataset.recording import Poses, copies
from dtx.env.environment import Environment
from dtx.env.vector import VectorEnv
from dtx.progress import Bar, progress
from dtx.training.threads import one_thread


def collect(
    agent: Agent,
    env: Environment,
    writer: EpisodeWriter,
    parts: Sequence[tuple[float, int]],
    *,
    environments: int,
    seed: int,
) -> None:
    """Record episodes of an agent at several temperatures, with the writer's facts if it has some.

    Args:
        agent: Who plays.
        env: Where.
        writer: Gets the finished episodes.
        parts: Temperature and number of episodes of each part.
        environments: Played at once.
        seed: Of the layouts and of sampling.
    """
    total = sum(quota for _, quota in parts)
    with one_thread(), progress("rollouts", total, "episodes") as bar:
        for part, (temperature, quota) in enumerate(parts):
            if quota:
                own = int(np.random.SeedSequence([seed, part]).generate_state(1)[0])
                vector, poses = copies(env, min(environments, quota), own, writer.worlds)
                _play(agent, vector, poses, writer, bar, temperature, quota, own)


@torch.inference_mode()
def _play(
    agent: Agent,
    env: VectorEnv,
    poses: Poses,
    writer: EpisodeWriter,
    bar: Bar,
    temperature: float,
    quota: int,
    seed: int,
) -> None:
    """Play ``quota`` episodes. Every episode that starts is finished and kept: stopping at the first
    ``quota`` that end would favour short ones.
    """
    n, horizon = env.n, env.horizon
    noise = torch.Generator().manual_seed(seed)
    steps = {name: np.zeros((n, horizon), kind) for name, kind in writer.types.items()}
    observations, memory = env.reset(), agent.initial_memory(n)
    time = np.zeros(n, np.int64)
    started, everyone = n, np.arange(n)
    playing = np.ones(n, bool)
    while playing.any():
        logits, _, memory = agent.step(torch.from_numpy(observations), memory)
        # Gumbel noise: the largest of logits/T + noise is a sample of softmax(logits/T).
        gumbel = -torch.log(torch.empty_like(logits).exponential_(generator=noise))
        actions = (logits / temperature + gumbel).argmax(-1).numpy()
        steps["observation"][everyone, time] = writer.identify(observations)
        steps["action"][everyone, time] = actions
        for name, column in poses().items():
            steps[name][everyone, time] = column
        result = env.step(actions)
        steps["reward"][everyone, time] = result.reward
        time += 1
        observations = result.observations
        ended = result.terminated | result.truncated
        if not ended.any():
            continue
        memory[torch.from_numpy(ended)] = 0
        kept = np.flatnonzero(ended & playing)
        if len(kept):
            outcome = np.where(
                result.terminated[kept],
                np.where(result.reward[kept] > 0, Outcome.SUCCESS, Outcome.WRONG),
                Outcome.TRUNCATED,
            )
            writer.append({k: v[kept] for k, v in steps.items()}, time[kept], outcome, temperature)
            bar.advance(len(kept))
            # The next episodes go to these environments while there are any left to start.
            more = min(len(kept), quota - started)
            started += more
            playing[kept[more:]] = False
        time[ended] = 0
