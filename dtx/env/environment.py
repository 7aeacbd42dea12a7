"""What every environment offers; a config names the class by ``_target_``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from dtx.env.decision import Decision
from dtx.env.vector import VectorEnv

if TYPE_CHECKING:
    import gymnasium


class Environment(Protocol):
    """A task on a gridworld: a frozen dataclass of its settings."""

    @property
    def id(self) -> str:
        """Gymnasium id."""
        ...

    @property
    def n_actions(self) -> int:
        """How many actions there are."""
        ...

    @property
    def horizon(self) -> int:
        """Steps allowed in an episode."""
        ...

    @property
    def decision(self) -> Decision | None:
        """Where layouts ask for different turns; None if the task has no such place."""
        ...

    def make(self) -> gymnasium.Env:
        """One environment of minigrid itself, for rendering and edits."""
        ...

    def vector(self, n: int, seed: int) -> VectorEnv:
        """n copies that start their next episode by themselves."""
        ...
