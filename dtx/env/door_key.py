"""MiniGrid's DoorKey: fetch the key, open the locked door with it, walk to the goal behind.

The decision is what to do in front of the locked door with the key in hand: ``toggle`` opens it. A carried
object is seen in the agent's own cell of the view.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dtx.config.ranges import Count
from dtx.env.facts import DOOR_STATES, Fact, States, common, place, told_by
from dtx.env.roles import Cell, Complement, Predicate, Roles, agent_cell, cells_of
from dtx.env.task import Task

if TYPE_CHECKING:
    from minigrid.minigrid_env import MiniGridEnv

SIZES = (5, 6, 8, 16)
DOOR, KEY, LOCKED = 4, 5, 2
"""MiniGrid's object indices and door state that matter here."""


@dataclass(frozen=True, kw_only=True)
class DoorKey(Task):
    """DoorKey on a square world.

    Attributes:
        size: Cells along a side of the world: 5, 6, 8 or 16.
        max_steps: Steps allowed in an episode; None for the task's own limit, 10 * size**2.
        backend: What runs many copies.
    """

    size: Count

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (field, what is wrong and what to do)."""
        if self.size not in SIZES:
            yield "size", f"{self.size} is no size of DoorKey; choose one of {SIZES}"

    @property
    def id(self) -> str:
        """Gymnasium id."""
        return f"MiniGrid-DoorKey-{self.size}x{self.size}-v0"

    @property
    def own_limit(self) -> int:
        """Steps that the task itself allows in an episode."""
        return 10 * self.size**2

    @property
    def roles(self) -> Roles | None:
        """The agent and the three things of the task."""
        return DoorKeyRoles()


class DoorKeyRoles:
    """Roles of DoorKey's things: a :class:`dtx.env.roles.Roles`."""

    @property
    def names(self) -> tuple[str, ...]:
        """The agent and the three things of the task."""
        return ("agent", "key", "door", "goal")

    @property
    def complement(self) -> Complement | None:
        """None: the task gives no instruction."""
        return None

    def where(self, world: MiniGridEnv) -> dict[str, list[Cell]]:
        """Where they are in a world at its start."""
        return {"agent": [agent_cell(world)]} | {
            name: cells_of(world, name) for name in self.names[1:]
        }

    def predicates(self) -> dict[str, Predicate]:
        """``decision`` (see above); ``key_ahead``, ``door_ahead`` (in any state)."""
        return {
            "decision": _at_decision,
            "key_ahead": lambda seen: seen[..., 3, 5, 0] == KEY,
            "door_ahead": lambda seen: seen[..., 3, 5, 0] == DOOR,
        }

    def facts(self, states: States) -> dict[str, Fact]:
        """Those of every task, where key, door and goal are, and the door's state."""
        door = states.first("door")
        return {
            **common(states),
            **place(states, "key"),
            **place(states, "door"),
            **place(states, "goal"),
            "door": told_by(DOOR_STATES[states.at(door)[:, 2]], door),
        }

    def settle(self, world: MiniGridEnv) -> None:
        """Nothing: all that counts is in the grid."""


def _at_decision(observations: np.ndarray) -> np.ndarray:
    """Whether the agent faces the locked door with the key in hand, (..., 7, 7, 3) to (...) bool."""
    ahead, in_hand = observations[..., 3, 5, :], observations[..., 3, 6, 0]
    return (ahead[..., 0] == DOOR) & (ahead[..., 2] == LOCKED) & (in_hand == KEY)
