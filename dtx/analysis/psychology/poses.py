"""All poses of a world that fit a context, with the shortest actions to them.

Letters: y layouts, p poses, t steps, r targets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from dtx.dt.context import Context
from dtx.dt.history import History
from dtx.dt.model import DecisionTransformerModel
from dtx.env.actions import Action
from dtx.env.decision import Decision

if TYPE_CHECKING:
    import gymnasium
    from minigrid.minigrid_env import MiniGridEnv

LEFT, RIGHT, FORWARD = Action.left.number, Action.right.number, Action.forward.number
KINETIC = (FORWARD, LEFT, RIGHT)
"""Actions that change the pose, in the order in which the search tries them."""


@dataclass(frozen=True)
class Poses:
    """Poses that all layouts have in common.

    Attributes:
        pose: (x, y, direction) each. actions: The shortest way there, the same in all layouts.
        observations: [y][p] (steps + 1, 7, 7, 3) uint8, seen on the way.
        worlds: [y] (x, y, type) of every object and wall.
    """

    pose: list[tuple[int, int, int]]
    actions: list[tuple[int, ...]]
    observations: list[list[np.ndarray]]
    worlds: list[list[tuple[int, int, str]]]

    def after(self, actions: list[int]) -> int | None:
        """The pose that is reached by exactly these actions."""
        return self.actions.index(tuple(actions)) if tuple(actions) in self.actions else None

    @property
    def ends(self) -> list[int]:
        """The poses that are on the way to no other."""
        inner = {actions[:step] for actions in self.actions for step in range(len(actions))}
        return [p for p, actions in enumerate(self.actions) if actions not in inner]

    def on_the_way(self, end: int) -> list[tuple[int, int]]:
        """(pose, its number of steps) of every pose on the way to one, itself included."""
        way = self.actions[end]
        return [(p, len(a)) for p, a in enumerate(self.actions) if way[: len(a)] == a]

    @property
    def distinct(self) -> int:
        """How many of the ways differ in what is seen and done, over all layouts."""
        seen = {
            (observed.tobytes(), actions)
            for of_layout in self.observations
            for observed, actions in zip(of_layout, self.actions, strict=True)
        }
        return len(seen)

    @property
    def seen(self) -> np.ndarray:
        """(u, 7, 7, 3) the distinct observations on all ways."""
        views = np.concatenate([each for of_layout in self.observations for each in of_layout])
        return np.unique(views, axis=0)

    def on_routine(self, decision: Decision) -> np.ndarray:
        """(y, p) bool: the way there is the beginning of the layout's routine."""
        routines = [tuple(decision.routine(y)) for y in range(len(self.observations))]
        return np.array([[r[: len(a)] == a for a in self.actions] for r in routines])


def reach(decision: Decision, longest: int) -> Poses:
    """Breadth-first search from the start by turns and steps of at most ``longest`` actions.

    Poses in which the episode is over are left out, and so are those that not all layouts reach by the
    same actions.
    """
    worlds = []
    for layout in range(len(decision.layouts)):
        world = decision.make(layout)
        observation, _ = world.reset(seed=0)
        worlds.append((world, observation["image"]))
    poses = reach_from(worlds, longest)
    for world, _ in worlds:
        world.close()
    return poses


def reach_from(worlds: Sequence[tuple[gymnasium.Env, np.ndarray]], longest: int) -> Poses:
    """The same from worlds of minigrid as they are, each with what is seen there; they are stepped."""
    objects = [_objects(world) for world, _ in worlds]
    reached = [_search(world, seen, longest) for world, seen in worlds]
    first = reached[0]
    shared = [p for p in first if all(p in r and r[p][0] == first[p][0] for r in reached)]
    return Poses(
        pose=shared,
        actions=[first[p][0] for p in shared],
        observations=[[r[p][1] for p in shared] for r in reached],
        worlds=objects,
    )


def _search(
    world: gymnasium.Env, observation: np.ndarray, longest: int
) -> dict[tuple[int, int, int], tuple[tuple[int, ...], np.ndarray]]:
    """Poses with the actions to them and the observations on the way.

    Turns and steps leave the world as it is, so the search goes on from a pose by putting the agent there.
    """
    place = cast("MiniGridEnv", world.unwrapped)

    def pose() -> tuple[int, int, int]:
        x, y = (int(v) for v in place.agent_pos)
        return x, y, int(place.agent_dir)

    seen: dict[tuple[int, int, int], tuple[tuple[int, ...], np.ndarray]] = {
        pose(): ((), observation[None])
    }
    waiting = deque([pose()])
    while waiting:
        start = waiting.popleft()
        actions, observations = seen[start]
        if len(actions) == longest:
            continue
        for action in KINETIC:
            place.agent_pos, place.agent_dir = np.array(start[:2]), start[2]
            place.step_count = len(actions)
            after, _, terminated, truncated, _ = world.step(action)
            if terminated or truncated or pose() in seen:
                continue
            latest = np.concatenate([observations, after["image"][None]])
            seen[pose()] = ((*actions, action), latest)
            waiting.append(pose())
    return seen


def _objects(world: gymnasium.Env) -> list[tuple[int, int, str]]:
    grid = cast("MiniGridEnv", world.unwrapped).grid
    cells = [(x, y, grid.get(x, y)) for x in range(grid.width) for y in range(grid.height)]
    return [(x, y, cell.type) for x, y, cell in cells if cell is not None]


def contexts(
    model: DecisionTransformerModel,
    poses: Poses,
    targets: Sequence[float],
    which: Sequence[int] | None = None,
) -> list[tuple[np.ndarray, Context]]:
    """What the model sees in poses, in every layout and at every target, one batch a number of steps.

    Args:
        model: Decides the padding.
        poses: All of them.
        targets: Rewards-to-go.
        which: Poses; None: all.

    Returns:
        (indices of the poses, windows in the order target, layout, pose), as long as the ways are.
    """
    batches = []
    chosen = np.arange(len(poses.pose)) if which is None else np.asarray(which)
    lengths = np.array([len(poses.actions[p]) for p in chosen])
    layouts = range(len(poses.observations))
    for length in np.unique(lengths):
        here = chosen[lengths == length]
        seen = np.stack([poses.observations[y][p] for y in layouts for p in here])
        taken = np.array([poses.actions[p] for y in layouts for p in here], np.int64)
        each = len(seen)
        history = History(model.cfg, each * len(targets), length + 1)
        for step in range(length + 1):
            history.see(np.tile(seen[:, step], (len(targets), 1, 1, 1)), np.repeat(targets, each))
            if step < length:
                history.act(np.tile(taken[:, step], len(targets)))
        batches.append((here, history.context(np.arange(each * len(targets)))))
    return batches
