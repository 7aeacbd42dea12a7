"""All poses of a world that fit a context, with the shortest actions to them.

Letters: y layouts, p poses, t steps, r targets.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from dtx.dt.context import Context
from dtx.dt.history import History
from dtx.dt.model import DecisionTransformerModel

LEFT, RIGHT, FORWARD = 0, 1, 2
"""MiniGrid's kinetic actions."""
KINETIC = (FORWARD, LEFT, RIGHT)
BACK = 2
"""Direction opposite to the start's, in quarter turns."""


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

    def on_routine(self, env: Any) -> np.ndarray:
        """(y, p) bool: the way there is the beginning of the layout's routine."""
        routines = [tuple(env.routine(y)) for y in range(len(self.observations))]
        return np.array([[r[: len(a)] == a for a in self.actions] for r in routines])


def reach(env: Any, longest: int) -> Poses:
    """Breadth-first search from the start by turns and steps of at most ``longest`` actions.

    Poses in which the episode is over are left out, and so are those that not all layouts reach by the
    same actions.
    """
    found, worlds = [], []
    for layout in range(len(env.layouts())):
        world = env.make(layout)
        found.append(_search(world, longest))
        worlds.append(_objects(world))
        world.close()
    shared = [pose for pose, (actions, _) in found[0].items()]
    shared = [p for p in shared if all(p in f and f[p][0] == found[0][p][0] for f in found)]
    return Poses(
        pose=shared,
        actions=[found[0][p][0] for p in shared],
        observations=[[f[p][1] for p in shared] for f in found],
        worlds=worlds,
    )


def _search(world: Any, longest: int) -> dict[tuple, tuple[tuple[int, ...], np.ndarray]]:
    """Poses with the actions to them and the observations on the way. Turns and steps leave the world as it
    is, so the search goes on from a pose by putting the agent there."""
    observation, _ = world.reset(seed=0)
    place = world.unwrapped

    def pose() -> tuple[int, int, int]:
        x, y = (int(v) for v in place.agent_pos)
        return x, y, int(place.agent_dir)

    seen = {pose(): ((), observation["image"][None])}
    waiting = deque([pose()])
    while waiting:
        start = waiting.popleft()
        actions, observations = seen[start]
        if len(actions) == longest:
            continue
        for action in KINETIC:
            place.agent_pos, place.agent_dir = np.array(start[:2]), start[2]
            place.step_count = len(actions)
            observation, _, terminated, truncated, _ = world.step(action)
            if terminated or truncated or pose() in seen:
                continue
            latest = np.concatenate([observations, observation["image"][None]])
            seen[pose()] = ((*actions, action), latest)
            waiting.append(pose())
    return seen


def _objects(world: Any) -> list[tuple[int, int, str]]:
    world.reset(seed=0)
    grid = world.unwrapped.grid
    cells = [(x, y, grid.get(x, y)) for x in range(grid.width) for y in range(grid.height)]
    return [(x, y, cell.type) for x, y, cell in cells if cell is not None]


def contexts(
    model: DecisionTransformerModel, poses: Poses, targets: tuple[float, ...]
) -> list[tuple[np.ndarray, Context]]:
    """What the model sees in every pose, layout and target, one batch a number of steps.

    Returns:
        (indices of the poses, windows in the order target, layout, pose).
    """
    batches = []
    lengths = np.array([len(a) for a in poses.actions])
    layouts = range(len(poses.observations))
    for length in np.unique(lengths):
        mine = np.flatnonzero(lengths == length)
        seen = np.stack([poses.observations[y][p] for y in layouts for p in mine])
        taken = np.array([poses.actions[p] for y in layouts for p in mine], np.int64)
        each = len(seen)
        history = History(model.cfg, each * len(targets), length + 1)
        for step in range(length + 1):
            history.see(np.tile(seen[:, step], (len(targets), 1, 1, 1)), np.repeat(targets, each))
            if step < length:
                history.act(np.tile(taken[:, step], len(targets)))
        batches.append((mine, history.context(np.arange(each * len(targets)))))
    return batches
