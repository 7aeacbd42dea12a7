"""A scripted teacher and a random one as real stages, for tests of what consumes agents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dtx.agent.agent import AgentStage


@dataclass(frozen=True, kw_only=True)
class Constant(AgentStage):
    """Its policy is the same everywhere: softmax of ``logits``. Its memory counts steps of the episode."""

    logits: tuple[float, ...]

    def run(self, out: Path) -> None:
        (out / "logits.txt").write_text(" ".join(map(str, self.logits)))

    def load(self) -> ConstantAgent:
        return ConstantAgent(
            torch.tensor([float(x) for x in (self.path / "logits.txt").read_text().split()])
        )


class ConstantAgent:
    def __init__(self, logits: torch.Tensor):
        self.logits = logits

    def initial_memory(self, n: int) -> torch.Tensor:
        return torch.zeros(n, 1)

    def step(self, observations: np.ndarray, memory: torch.Tensor):
        n = len(observations)
        return self.logits.expand(n, -1), torch.zeros(n), memory + 1
