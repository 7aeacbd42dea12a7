"""Agents, and the stages whose product is one."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dtx.stage import Stage

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from dtx.env.environment import Environment


class Agent(Protocol):
    """Acts step by step with a memory. Letters: n environments, m memory, a actions."""

    def initial_memory(self, n: int) -> Tensor:
        """The memory before an episode's first observation, (n, m)."""
        ...

    def step(
        self, observations: Tensor | np.ndarray, memory: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(n, 7, 7, 3) uint8 and (n, m) to logits (n, a), values (n,), memory (n, m)."""
        ...


@dataclass(frozen=True, kw_only=True)
class AgentStage(Stage, abc.ABC):
    """Interface of stages that provide an agent: trained, imported, or of another library."""

    @property
    def environment(self) -> Environment | None:
        """Where the agent learned to act; None if the stage does not say."""
        return None

    @property
    def may_unpickle(self) -> bool:
        """Whether the user allowed to unpickle the artefact's files (``agent.unsafe_pickle=true``)."""
        return False

    @abc.abstractmethod
    def load(self) -> Agent:
        """The agent, in evaluation mode."""
