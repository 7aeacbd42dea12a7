"""Runs through worlds of minigrid itself, up to the step that a pair is about."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from dtx.env.roles import Roles

if TYPE_CHECKING:
    from minigrid.minigrid_env import MiniGridEnv

Reached = Callable[[np.ndarray, int], bool]
"""Observation and number of steps taken, to whether this is the state that the pair is about."""


class Refused(Exception):
    """A run that cannot be part of a pair; says why, in words that pairs can be counted by."""


@dataclass
class Run:
    """A run up to the state that matters: t states, t - 1 actions.

    Attributes:
        observations: t times (7, 7, 3) uint8.
        actions: MiniGrid's. rewards: One an action.
        visible: Roles whose thing the agent sees, one set a state.
        picture: The world at the start, (pixels, pixels, 3) uint8; without pixels where none was asked for.
        rewards_to_go: (t,) float32, filled in where a target is given.
        grid: The world at the start as MiniGrid encodes it, (width, height, 3) uint8.
    """

    observations: list[np.ndarray] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    visible: list[frozenset[str]] = field(default_factory=list)
    picture: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 3), np.uint8))
    rewards_to_go: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    grid: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 3), np.uint8))

    @property
    def seen(self) -> np.ndarray:
        """(t, 7, 7, 3) uint8."""
        return np.stack(self.observations)


class Policy(Protocol):
    """Acts in one world after the other."""

    def begin(self, world: MiniGridEnv, target: float, given: Mapping[int, int]) -> None:
        """A new episode.

        Args:
            world: At its start.
            target: The reward-to-go asked for.
            given: Actions that are taken whatever the policy prefers, by step, counted from 0.
        """
        ...

    def act(self, observation: np.ndarray, reward_to_go: float) -> int | None:
        """The next action, or None if there is none."""
        ...


def copied(world: MiniGridEnv) -> MiniGridEnv:
    """A world that goes on the same way: grid, agent, random numbers."""
    shared = [world.action_space, world.observation_space, world.spec]
    walls = [thing for thing in world.grid.grid if thing is not None and thing.type == "wall"]
    return copy.deepcopy(world, {id(x): x for x in (*shared, *walls)})


def play(
    world: MiniGridEnv,
    roles: Roles,
    policy: Policy,
    reached: Reached | int,
    *,
    target: float,
    longest: int,
    may_end: bool = False,
    given: Mapping[int, int] | None = None,
    draw: bool = True,
) -> Run:
    """Act until the state that matters.

    Args:
        world: At its start; it is stepped.
        roles: Of the environment.
        policy: Acts.
        reached: Asked of every state; or the number of steps to take.
        target: Reward-to-go at the start; it falls by each reward.
        longest: Steps allowed.
        may_end: Go on even if the episode has ended.
        given: Actions that are taken whatever the policy prefers, by step, counted from 0.
        draw: Take a picture of the world at the start.

    Raises:
        Refused: The state is not reached.
    """
    run, to_go = Run(grid=world.grid.encode()), float(target)
    if draw:
        run.picture = picture(world)
    there = (lambda _, step: step == reached) if isinstance(reached, int) else reached
    observation = world.gen_obs()["image"]
    policy.begin(world, target, given or {})
    while True:
        run.observations.append(observation)
        run.visible.append(visible(world, roles, observation))
        run.rewards_to_go = np.append(run.rewards_to_go, np.float32(to_go))
        if there(observation, len(run.actions)):
            return run
        if len(run.actions) == longest:
            raise Refused(f"not reached within {longest} steps")
        action = policy.act(observation, to_go)
        if action is None:
            raise Refused(f"not reached when the actions ended, after {len(run.actions)} steps")
        observation, reward, terminated, truncated = act_once(world, action)
        run.actions.append(action)
        run.rewards.append(reward)
        to_go -= reward
        if (terminated or truncated) and not may_end:
            raise Refused(f"the episode ended with step {len(run.actions)}")


def act_once(world: MiniGridEnv, action: int) -> tuple[np.ndarray, float, bool, bool]:
    """Act once: the observation (7, 7, 3) uint8, the reward, whether the task or the limit ended it."""
    seen, reward, terminated, truncated, _ = world.step(action)
    return seen["image"], float(reward), bool(terminated), bool(truncated)


def visible(world: MiniGridEnv, roles: Roles, observation: np.ndarray) -> frozenset[str]:
    """Roles of which at least one thing is in view and not hidden."""
    seen = {"agent"}
    for role, cells in roles.where(world).items():
        for cell in cells:
            place = world.relative_coords(*cell)
            if place is not None and observation[*place, 0] != 0:
                seen.add(role)
    return frozenset(seen)


def picture(world: MiniGridEnv) -> np.ndarray:
    """The world as minigrid draws it, what the agent sees highlighted, about 112 pixels wide."""
    return world.get_full_render(highlight=True, tile_size=max(4, round(112 / world.width)))


def view_picture(observation: np.ndarray, tile: int = 16) -> np.ndarray:
    """An observation as minigrid would draw it; cells not seen are dark."""
    from minigrid.core.grid import Grid

    grid, seen = Grid.decode(observation)
    hand = observation[3, 6, 0]
    if hand not in (5, 6, 7):  # an agent without a key, ball or box in hand is drawn as itself
        return grid.render(tile, agent_pos=(3, 6), agent_dir=3, highlight_mask=seen)
    return grid.render(tile, agent_pos=(-1, -1), agent_dir=3, highlight_mask=seen)
