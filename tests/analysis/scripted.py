"""Demonstrations of Memory by script: every layout, both turns, after a few detours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dtx.dataset.dataset import Dataset
from dtx.dataset.episodes import Episodes, Outcome
from dtx.env.encoding import distinct
from dtx.env.memory import FORWARD, LEFT, RIGHT, Memory

DETOURS = ((), (LEFT, RIGHT), (RIGHT, LEFT), (LEFT, LEFT, RIGHT, RIGHT))


@dataclass(frozen=True, kw_only=True)
class Scripted(Dataset):
    """32 episodes of at most 10 steps, half of them successes; all are for training."""

    env: Memory

    @property
    def environment(self) -> Memory:
        return self.env

    def run(self, out: Path) -> None:
        (out / "scripted.txt").write_text("32\n")

    def load(self) -> Episodes:
        seen, taken, rewards, lengths = [], [], [], []
        for layout in range(4):
            for turn in (LEFT, RIGHT):
                for detour in DETOURS:
                    script = [*detour, *[FORWARD] * self.env.decision.step, turn, FORWARD]
                    world = self.env.decision.make(layout)
                    observation = world.reset(seed=0)[0]
                    for action in script:
                        seen.append(observation["image"])
                        observation, reward, ended, *_ = world.step(action)
                        rewards.append(reward)
                    assert ended
                    taken += script
                    lengths.append(len(script))
                    world.close()
        views, index = distinct(np.stack(seen))
        length = np.array(lengths, np.int32)
        start = np.cumsum(length) - length
        reward = np.array(rewards, np.float32)
        won = np.add.reduceat(reward, start) > 0
        return Episodes(
            observations=views,
            observation=index.astype(np.int32),
            action=np.array(taken, np.uint8),
            reward=reward,
            start=start.astype(np.int64),
            length=length,
            outcome=np.where(won, Outcome.SUCCESS, Outcome.WRONG).astype(np.uint8),
            temperature=np.ones(len(length), np.float32),
            split=np.zeros(len(length), np.uint8),
        )
