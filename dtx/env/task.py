"""What the environments share that are one task of MiniGrid with settings and roles of its own."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dtx.config.ranges import Count
from dtx.env.decision import Decision
from dtx.env.environment import require_valid
from dtx.env.minigrid import MiniGrid
from dtx.env.vector import Backend, VectorEnv

if TYPE_CHECKING:
    import gymnasium


@dataclass(frozen=True, kw_only=True)
class Task(abc.ABC):
    """Base of such environments; a subclass gives ``id``, ``roles`` and the task's own limit.

    Attributes:
        max_steps: Steps allowed in an episode; None for the task's own limit.
        backend: What runs many copies.
    """

    max_steps: Count | None
    backend: Backend

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (field, what is wrong and what to do)."""
        yield from ()

    @property
    @abc.abstractmethod
    def id(self) -> str:
        """Gymnasium id."""

    @property
    @abc.abstractmethod
    def own_limit(self) -> int:
        """Steps that the task itself allows in an episode."""

    @property
    def task(self) -> MiniGrid:
        """The same as any MiniGrid task.

        Raises:
            UserError: A setting is wrong.
        """
        require_valid(self)
        return MiniGrid(id=self.id, max_steps=self.max_steps, backend=self.backend)

    @property
    def n_actions(self) -> int:
        """7: left, right, forward, pickup, drop, toggle, done."""
        return 7

    @property
    def horizon(self) -> int:
        """Steps allowed in an episode."""
        return self.own_limit if self.max_steps is None else self.max_steps

    @property
    def decision(self) -> Decision | None:
        """None: the task has no fixed layouts with a scripted way to one deciding turn."""
        return None

    def make(self) -> gymnasium.Env:
        """One environment of minigrid itself, for rendering and edits."""
        return self.task.make()

    def vector(self, n: int, seed: int) -> VectorEnv:
        """n copies that start their next episode by themselves; see ``dtx.env.vector``."""
        return self.task.vector(n, seed)
