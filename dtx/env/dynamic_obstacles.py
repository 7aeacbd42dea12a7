"""MiniGrid's Dynamic Obstacles: walk to the goal among balls that move at random.

The decision is what to do with a ball in the cell ahead: ``forward`` runs into it, which ends the episode
with reward -1. Only three actions exist: left, right, forward.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dtx.config.ranges import Count
from dtx.env.facts import Fact, States, common, place
from dtx.env.roles import Cell, Complement, Predicate, Roles, agent_cell, cells_of, things
from dtx.env.task import Task

if TYPE_CHECKING:
    from minigrid.minigrid_env import MiniGridEnv

SIZES, RANDOM_SIZES = (5, 6, 8, 16), (5, 6)
BALL = 6
"""MiniGrid's object index of an obstacle."""


@dataclass(frozen=True, kw_only=True)
class DynamicObstacles(Task):
    """Dynamic Obstacles on a square world.

    Attributes:
        size: Cells along a side of the world: 5, 6, 8 or 16.
        random_start: Whether the agent starts anywhere; else in the corner, facing right.
        max_steps: Steps allowed in an episode; None for the task's own limit, 4 * size**2.
        backend: What runs many copies.
    """

    size: Count
    random_start: bool

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (field, what is wrong and what to do)."""
        known = RANDOM_SIZES if self.random_start else SIZES
        if self.size not in known:
            start = " with a random start" if self.random_start else ""
            yield (
                "size",
                f"{self.size} is no size of Dynamic Obstacles{start}; choose one of {known}",
            )

    @property
    def id(self) -> str:
        """Gymnasium id."""
        start = "Random-" if self.random_start else ""
        return f"MiniGrid-Dynamic-Obstacles-{start}{self.size}x{self.size}-v0"

    @property
    def n_actions(self) -> int:
        """3: left, right, forward."""
        return 3

    @property
    def own_limit(self) -> int:
        """Steps that the task itself allows in an episode."""
        return 4 * self.size**2

    @property
    def roles(self) -> Roles | None:
        """The agent, the goal and all the balls."""
        return DynamicObstaclesRoles()


class DynamicObstaclesRoles:
    """Roles of Dynamic Obstacles' things: a :class:`dtx.env.roles.Roles`."""

    @property
    def names(self) -> tuple[str, ...]:
        """The agent, the goal and all the balls."""
        return ("agent", "goal", "obstacle")

    @property
    def complement(self) -> Complement | None:
        """None: the task gives no instruction."""
        return None

    def where(self, world: MiniGridEnv) -> dict[str, list[Cell]]:
        """Where they are in a world at its start."""
        return {
            "agent": [agent_cell(world)],
            "goal": cells_of(world, "goal"),
            "obstacle": cells_of(world, "ball"),
        }

    def predicates(self) -> dict[str, Predicate]:
        """``decision`` (see above)."""
        return {"decision": _at_decision}

    def facts(self, states: States) -> dict[str, Fact]:
        """Those of every task, where the goal is, and beside how many balls the agent stands."""
        known = common(states)
        sides = ("ahead", "left_of_agent", "right_of_agent")
        balls = np.sum([known[name].value == "ball" for name in sides], axis=0)
        return {**known, **place(states, "goal"), "balls_beside": Fact(balls, of=sides)}

    def settle(self, world: MiniGridEnv) -> None:
        """Set which balls the world moves: those that it had, then new ones."""
        from minigrid.core.world_object import Ball
        from minigrid.envs.dynamicobstacles import DynamicObstaclesEnv

        assert isinstance(world, DynamicObstaclesEnv)
        balls = [thing for _, thing in things(world) if isinstance(thing, Ball)]
        kept = [ball for ball in world.obstacles if any(ball is thing for thing in balls)]
        new = [ball for ball in balls if not any(ball is other for other in kept)]
        world.obstacles = kept + new


def _at_decision(observations: np.ndarray) -> np.ndarray:
    """Whether a ball is in the cell ahead, (..., 7, 7, 3) to (...) bool."""
    return observations[..., 3, 5, 0] == BALL
