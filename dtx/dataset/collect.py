"""Play an agent in many environments at once and hand finished episodes to a writer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dtx.dataset.episodes import EpisodeWriter, Outcome
from dtx.progress import Bar, progress
from dtx.training.threads import one_thread

if TYPE_CHECKING:
    from dtx.dataset.rollouts import Rollouts


def collect(stage: Rollouts, agent: Any, writer: EpisodeWriter) -> None:
    """Record the episodes of every part of the mixture.

    Args:
        stage: Says how many, at which temperatures, in how many environments, with which seed.
        agent: Offers ``initial_memory(n)`` and ``step(observations, memory)`` (see dtx/agent/network.py).
        writer: Gets the finished episodes.
    """
    with one_thread(), progress("rollouts", stage.episodes, "episodes") as bar:
        for part, (share, quota) in enumerate(zip(stage.mixture, stage.quotas(), strict=True)):
            seed = int(np.random.SeedSequence([stage.seed, part]).generate_state(1)[0])
            _play(stage, agent, writer, bar, share.temperature, quota, seed)


@torch.inference_mode()
def _play(
    stage: Rollouts,
    agent: Any,
    writer: EpisodeWriter,
    bar: Bar,
    temperature: float,
    quota: int,
    seed: int,
) -> None:
    """Play ``quota`` episodes. Every episode that was started is finished and kept: to stop at the first
    ``quota`` that end would favour short ones.
    """
    if quota == 0:
        return
    n = min(stage.environments, quota)
    env = stage.env.vector(n, seed)
    noise = torch.Generator().manual_seed(seed)
    horizon = env.horizon
    steps = {
        "observation": np.zeros((n, horizon), np.int32),
        "action": np.zeros((n, horizon), np.uint8),
        "reward": np.zeros((n, horizon), np.float32),
    }
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
