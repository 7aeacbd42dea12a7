"""MiniGrid's DoorKey: fetch the key, open the locked door with it, walk to the goal behind.

The decision is what to do in front of the locked door with the key in hand: ``toggle`` opens it. A carried
object is seen in the agent's own cell of the view.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dtx.env.decision import Decision
from dtx.env.minigrid import MiniGrid
from dtx.env.roles import Cell, Predicate, agent_cell, cells_of
from dtx.env.vector import Backend, VectorEnv
from dtx.errors import UserError

if TYPE_CHECKING:
    import gymnasium

SIZES = (5, 6, 8, 16)
DOOR, KEY, LOCKED = 4, 5, 2
"""MiniGrid's object indices and door state that matter here."""


@dataclass(frozen=True, kw_only=True)
class DoorKey:
    """DoorKey on a square world.

    Attributes:
        size: Cells along a side of the world: 5, 6, 8 or 16.
        max_steps: Steps allowed in an episode; None for the task's own limit, 10 * size**2.
        backend: What runs many copies.
    """

    size: int
    max_steps: int | None
    backend: Backend

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (field, what is wrong and what to do)."""
        if self.size not in SIZES:
            yield "size", f"{self.size} is no size of DoorKey; choose one of {SIZES}"
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
        return f"MiniGrid-DoorKey-{self.size}x{self.size}-v0"

    @property
    def decision(self) -> Decision | None:
        """None: the task has no fixed layouts with a scripted way to one deciding turn."""
        return None

    @property
    def n_actions(self) -> int:
        """7: left, right, forward, pickup, drop, toggle, done."""
        return 7

    @property
    def horizon(self) -> int:
        """Steps allowed in an episode."""
        return 10 * self.size**2 if self.max_steps is None else self.max_steps

    def make(self) -> gymnasium.Env:
        """One environment of minigrid itself, for rendering and edits."""
        return self.task.make()

    def vector(self, n: int, seed: int) -> VectorEnv:
        """n copies that start their next episode by themselves; see ``dtx.env.vector``."""
        return self.task.vector(n, seed)

    @property
    def role_names(self) -> tuple[str, ...]:
        """The agent and the three things of the task."""
        return ("agent", "key", "door", "goal")

    def roles(self, world: Any) -> dict[str, list[Cell]]:
        """Where they are in a world at its start."""
        return {"agent": [agent_cell(world)]} | {
            name: cells_of(world, name) for name in self.role_names[1:]
        }

    def predicates(self) -> dict[str, Predicate]:
        """``decision`` (see above); ``key_ahead``, ``door_ahead`` (in any state)."""
        return {
            "decision": self.at_decision,
            "key_ahead": lambda seen: seen[..., 3, 5, 0] == KEY,
            "door_ahead": lambda seen: seen[..., 3, 5, 0] == DOOR,
        }

    def at_decision(self, observations: np.ndarray) -> np.ndarray:
        """Whether the agent faces the locked door with the key in hand, (..., 7, 7, 3) to (...) bool."""
        ahead, in_hand = observations[..., 3, 5, :], observations[..., 3, 6, 0]
        return (ahead[..., 0] == DOOR) & (ahead[..., 2] == LOCKED) & (in_hand == KEY)

    def settle(self, world: Any) -> None:
        """Nothing: all that counts is in the grid."""
