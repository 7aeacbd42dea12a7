"""MiniGrid's Dynamic Obstacles: walk to the goal among balls that move at random.

The decision is what to do with a ball in the cell ahead: ``forward`` runs into it, which ends the episode
with reward -1. Only three actions exist: left, right, forward.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dtx.env.decision import Decision
from dtx.env.minigrid import MiniGrid
from dtx.env.roles import Cell, Predicate, agent_cell, cells_of, things
from dtx.env.vector import Backend, VectorEnv
from dtx.errors import UserError

if TYPE_CHECKING:
    import gymnasium

SIZES, RANDOM_SIZES = (5, 6, 8, 16), (5, 6)
BALL = 6
"""MiniGrid's object index of an obstacle."""


@dataclass(frozen=True, kw_only=True)
class DynamicObstacles:
    """Dynamic Obstacles on a square world.

    Attributes:
        size: Cells along a side of the world: 5, 6, 8 or 16.
        random_start: Whether the agent starts anywhere; else in the corner, facing right.
        max_steps: Steps allowed in an episode; None for the task's own limit, 4 * size**2.
        backend: What runs many copies.
    """

    size: int
    random_start: bool
    max_steps: int | None
    backend: Backend

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (field, what is wrong and what to do)."""
        known = RANDOM_SIZES if self.random_start else SIZES
        if self.size not in known:
            start = " with a random start" if self.random_start else ""
            yield (
                "size",
                f"{self.size} is no size of Dynamic Obstacles{start}; choose one of {known}",
            )
        if self.max_steps is not None and self.max_steps < 1:
            yield "max_steps", f"{self.max_steps} allows no step; give 1 or more, or null"

    @property
    def task(self) -> MiniGrid:
        """The same as any MiniGrid task."""
        for field, problem in self.check():
            raise UserError(f"env.{field}: {problem}")
        return MiniGrid(id=self.id, max_steps=self.max_steps, backend=self.backend)

    @property
    def id(self) -> str:
        """Gymnasium id."""
        start = "Random-" if self.random_start else ""
        return f"MiniGrid-Dynamic-Obstacles-{start}{self.size}x{self.size}-v0"

    @property
    def decision(self) -> Decision | None:
        """None: the task has no fixed layouts with a scripted way to one deciding turn."""
        return None

    @property
    def n_actions(self) -> int:
        """3: left, right, forward."""
        return 3

    @property
    def horizon(self) -> int:
        """Steps allowed in an episode."""
        return 4 * self.size**2 if self.max_steps is None else self.max_steps

    def make(self) -> gymnasium.Env:
        """One environment of minigrid itself, for rendering and edits."""
        return self.task.make()

    def vector(self, n: int, seed: int) -> VectorEnv:
        """n copies that start their next episode by themselves; see ``dtx.env.vector``."""
        return self.task.vector(n, seed)

    @property
    def role_names(self) -> tuple[str, ...]:
        """The agent, the goal and all the balls."""
        return ("agent", "goal", "obstacle")

    def roles(self, world: Any) -> dict[str, list[Cell]]:
        """Where they are in a world at its start."""
        return {
            "agent": [agent_cell(world)],
            "goal": cells_of(world, "goal"),
            "obstacle": cells_of(world, "ball"),
        }

    def predicates(self) -> dict[str, Predicate]:
        """``decision`` (see above)."""
        return {"decision": self.at_decision}

    def at_decision(self, observations: np.ndarray) -> np.ndarray:
        """Whether a ball is in the cell ahead, (..., 7, 7, 3) to (...) bool."""
        return observations[..., 3, 5, 0] == BALL

    def settle(self, world: Any) -> None:
        """Tell the world which balls there are to move: those it had, then new ones."""
        there = [thing for _, thing in things(world) if thing.type == "ball"]
        kept = [ball for ball in world.obstacles if any(ball is thing for thing in there)]
        new = [thing for thing in there if not any(thing is ball for ball in kept)]
        world.obstacles = kept + new
