"""What an environment tells about its worlds, so that counterfactual edits can name things by their role.

A *world* is an unwrapped environment of minigrid itself between two steps. A *cell* is (x, y) in the world,
x column from the left, y row from the top.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from dtx.env.facts import Fact, States

if TYPE_CHECKING:
    import gymnasium
    from minigrid.core.world_object import WorldObj
    from minigrid.minigrid_env import MiniGridEnv

Cell = tuple[int, int]
Predicate = Callable[[np.ndarray], np.ndarray]
"""(..., 7, 7, 3) uint8 observations to (...) bool."""
Complement = Callable[[np.ndarray], str]
"""An episode's first observation (7, 7, 3) uint8 to a type of object."""


class Roles(Protocol):
    """The roles of the things in a task's worlds.

    ``env.roles`` is one of these, or None; dtx/env/memory.py and door_key.py have examples.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """All roles that a world of this task may have."""
        ...

    @property
    def complement(self) -> Complement | None:
        """Gives the type of object that the instruction is not; None for a task without instruction."""
        ...

    def where(self, world: MiniGridEnv) -> dict[str, list[Cell]]:
        """Where the things of each role lie in a world at its start."""
        ...

    def predicates(self) -> dict[str, Predicate]:
        """Named questions about an observation; ``decision`` where the task has a decision."""
        ...

    def facts(self, states: States) -> dict[str, Fact]:
        """What is true in each of n states, seen or not, by name; see :mod:`dtx.env.facts`."""
        ...

    def settle(self, world: MiniGridEnv) -> None:
        """Set anew what the world keeps beside its grid, after the grid was edited.

        Raises:
            Unsettled: The task has no rules for the edited world.
        """
        ...


class Unsettled(Exception):
    """A world that the task's rules do not cover; says why."""


def world_of(env: gymnasium.Env) -> MiniGridEnv:
    """The world under an environment's wrappers."""
    from minigrid.minigrid_env import MiniGridEnv

    world = env.unwrapped
    assert isinstance(world, MiniGridEnv), f"{world} is no environment of minigrid"
    return world


def cells_of(world: MiniGridEnv, kind: str) -> list[Cell]:
    """Cells that hold an object of a type (``key``, ``door``), row by row."""
    return [cell for cell, thing in things(world) if thing.type == kind]


def things(world: MiniGridEnv) -> list[tuple[Cell, WorldObj]]:
    """All objects in a world with their cells, row by row, walls too."""
    width = world.width
    return [
        ((place % width, place // width), thing)
        for place, thing in enumerate(world.grid.grid)
        if thing is not None
    ]


def agent_cell(world: MiniGridEnv) -> Cell:
    """Where the agent stands."""
    x, y = world.agent_pos
    return int(x), int(y)


def roles_by_type(world: MiniGridEnv) -> dict[str, list[Cell]]:
    """A role for the agent, and one for each type of object that is there but walls."""
    roles: dict[str, list[Cell]] = {"agent": [agent_cell(world)]}
    for cell, thing in things(world):
        if thing.type != "wall":
            roles.setdefault(thing.type, []).append(cell)
    return roles
