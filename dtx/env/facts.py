"""States of worlds as arrays, and the facts that hold in them.

A *state* is all that a world of minigrid holds between two steps and that decides what is seen: its grid,
where the agent stands and faces, and what it carries. A *fact* is something that is true of a state, whether
the agent sees it or not: what the instruction is, whether the door is open.

Letters: n states; w columns and h rows of the world; k cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from dtx.env.encoding import VIEW

if TYPE_CHECKING:
    from minigrid.minigrid_env import MiniGridEnv

OBJECTS = np.array(
    ("unseen", "empty", "wall", "floor", "door", "key", "ball", "box", "goal", "lava", "agent")
)
"""MiniGrid's objects by index."""
DOOR_STATES = np.array(("open", "closed", "locked"))
"""MiniGrid's states of a door by index."""
EMPTY, DOOR = 1, 4
"""MiniGrid's object indices that matter here; a hand that carries nothing is EMPTY."""
_FORWARD = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])
"""The step (column, row) that each direction means."""
NOWHERE = -1
"""Column and row of a thing that lies nowhere."""
HAND = -2
"""Column and row that stand for the agent's hand: the view shows it in the agent's own cell, always."""


@dataclass(frozen=True)
class States:
    """n states of worlds of one size.

    Attributes:
        grid: (n, w, h, 3) uint8, MiniGrid's indices (object, colour, state) of each cell.
        position: (n, 2) int64, column and row of the agent.
        direction: (n,) int64: 0 right, 1 down, 2 left, 3 up.
        carrying: (n, 2) uint8, indices of the object and its colour in the agent's hand; (EMPTY, 0): none.
    """

    grid: np.ndarray
    position: np.ndarray
    direction: np.ndarray
    carrying: np.ndarray

    def __len__(self) -> int:
        return len(self.direction)

    @property
    def shape(self) -> tuple[int, int]:
        """Columns and rows of the worlds."""
        return self.grid.shape[1], self.grid.shape[2]

    def cell(self, ahead: int, right: int = 0) -> np.ndarray:
        """(n, 2): the cell so many steps ahead and to the right of the agent."""
        forward = _FORWARD[self.direction]
        return (
            self.position + ahead * forward + right * np.stack([-forward[:, 1], forward[:, 0]], 1)
        )

    def at(self, cells: np.ndarray) -> np.ndarray:
        """What lies at a cell of each state, (n, 2) or (2,) to (n, 3) indices; outside the world: wall."""
        column, row = np.broadcast_to(cells, (len(self), 2)).T
        inside = (column >= 0) & (row >= 0) & (column < self.shape[0]) & (row < self.shape[1])
        found = self.grid[
            np.arange(len(self)), np.where(inside, column, 0), np.where(inside, row, 0)
        ]
        return np.where(inside[:, None], found, np.array([2, 0, 0], np.uint8))

    def type_at(self, cells: np.ndarray) -> np.ndarray:
        """The name of the object at a cell of each state, (n, 2) or (2,) to (n,)."""
        return OBJECTS[self.at(cells)[:, 0]]

    def first(self, kind: str) -> np.ndarray:
        """(n, 2): the cell of the first object of a type, row by row; NOWHERE if there is none."""
        index = int(OBJECTS.tolist().index(kind))
        found = (self.grid[..., 0] == index).transpose(0, 2, 1).reshape(len(self), -1)
        place = found.argmax(1)
        cells = np.stack([place % self.shape[0], place // self.shape[0]], 1)
        return np.where(found.any(1)[:, None], cells, NOWHERE)

    def shown(self, views: np.ndarray) -> np.ndarray:
        """Which cells of the world a view shows, (n, 7, 7, 3) uint8 to (n, w, h) bool.

        The agent's own cell is not among them: in its place the view shows what the agent carries.
        """
        shown = np.zeros((len(self), *self.shape), bool)
        for i in range(VIEW):
            for j in range(VIEW):
                column, row = self.cell(VIEW - 1 - j, i - VIEW // 2).T
                seen = views[:, i, j, 0] != 0
                inside = (
                    (column >= 0) & (row >= 0) & (column < self.shape[0]) & (row < self.shape[1])
                )
                which = np.flatnonzero(seen & inside)
                shown[which, column[which], row[which]] = True
        shown[np.arange(len(self)), *self.position.T] = False
        return shown


@dataclass(frozen=True)
class Fact:
    """Something that is true of each of n states.

    Attributes:
        value: (n,) of bool, integers or text.
        cells: (n, k, 2) the cells any one of which tells it to who sees it; HAND: the agent's hand, NOWHERE:
            none. k is 0 where no view tells it by itself: where the agent is, say.
        of: Names of the facts that it follows from, where it is not told by a cell itself.
    """

    value: np.ndarray
    cells: np.ndarray = field(default_factory=lambda: np.zeros((1, 0, 2), np.int64))
    of: tuple[str, ...] = ()

    def told(self, shown: np.ndarray) -> np.ndarray:
        """Whether a view tells it, (n, w, h) shown cells to (n,) bool."""
        n, (column, row) = np.arange(len(shown))[:, None], np.moveaxis(self.cells, -1, 0)
        seen = shown[n, np.maximum(column, 0), np.maximum(row, 0)] & (column >= 0)
        return (seen | (column == HAND)).any(1)


def told_by(value: np.ndarray, *cells: np.ndarray) -> Fact:
    """A fact that any one of some cells tells, (n, 2) or (2,) each."""
    n = len(value)
    return Fact(value, np.stack([np.broadcast_to(c, (n, 2)) for c in cells], 1))


def common(states: States) -> dict[str, Fact]:
    """Facts of every task: the agent's pose, its hand, and what is in the cells around it."""
    around = {
        "ahead": states.cell(1),
        "left_of_agent": states.cell(0, -1),
        "right_of_agent": states.cell(0, 1),
    }
    return {
        "x": Fact(states.position[:, 0]),
        "y": Fact(states.position[:, 1]),
        "direction": Fact(states.direction),
        "carrying": told_by(OBJECTS[states.carrying[:, 0]], np.array([HAND, HAND])),
        **{name: told_by(states.type_at(cell), cell) for name, cell in around.items()},
    }


def place(states: States, kind: str) -> dict[str, Fact]:
    """``KIND_x`` and ``KIND_y`` of the first object of a type; NOWHERE while it is carried or gone."""
    cell = states.first(kind)
    held = OBJECTS[states.carrying[:, 0]] == kind
    shows = np.where(held[:, None], HAND, cell)
    return {f"{kind}_{axis}": told_by(cell[:, i], shows) for i, axis in enumerate("xy")}


# --- states of minigrid's worlds ---------------------------------------------------------------------


class StateTable:
    """The distinct grids of worlds, numbered as they come.

    Attributes:
        shape: Columns and rows; None before the first world.
    """

    def __init__(self) -> None:
        self.shape: tuple[int, int] | None = None
        self._numbers: dict[tuple, int] = {}

    def read(self, worlds: Sequence[MiniGridEnv]) -> dict[str, np.ndarray]:
        """The states of n worlds now: ``world`` (row of :attr:`grids`), ``x``, ``y``, ``direction``,
        ``carrying`` and ``carrying_colour``, (n,) each.
        """
        rows = []
        for world in worlds:
            shape = (world.grid.width, world.grid.height)
            if self.shape is None:
                self.shape = shape
            if shape != self.shape:
                raise ValueError(f"a world is {shape}, others {self.shape}")
            key = tuple([None if c is None else c.encode() for c in world.grid.grid])
            number = self._numbers.setdefault(key, len(self._numbers))
            thing = world.carrying
            held = (EMPTY, 0) if thing is None else thing.encode()[:2]
            x, y = world.agent_pos
            rows.append((number, x, y, world.agent_dir, *held))
        columns = np.array(rows, np.int64).T
        names = ("world", "x", "y", "direction", "carrying", "carrying_colour")
        return dict(zip(names, columns, strict=True))

    @property
    def grids(self) -> np.ndarray:
        """(worlds, w, h, 3) uint8: the distinct grids."""
        width, height = self.shape or (0, 0)
        empty = (EMPTY, 0, 0)
        flat = [[empty if cell is None else cell for cell in key] for key in self._numbers]
        rows = np.array(flat, np.uint8).reshape(-1, height, width, 3)
        return np.ascontiguousarray(rows.transpose(0, 2, 1, 3))


def states_of(grids: np.ndarray, columns: Mapping[str, np.ndarray]) -> States:
    """States from distinct grids and the columns that :meth:`StateTable.read` gives."""
    return States(
        grid=grids[columns["world"]],
        position=np.stack([columns["x"], columns["y"]], 1).astype(np.int64),
        direction=columns["direction"].astype(np.int64),
        carrying=np.stack([columns["carrying"], columns["carrying_colour"]], 1).astype(np.uint8),
    )


def put(world: MiniGridEnv, states: States, i: int) -> None:
    """Set a world to a state. What it keeps beside grid, pose and hand stays as it is.

    What is inside a closed box is no part of a state: the box is empty then.
    """
    from minigrid.core.grid import Grid
    from minigrid.core.world_object import WorldObj

    world.grid, _ = Grid.decode(states.grid[i])
    world.agent_pos = tuple(int(v) for v in states.position[i])
    world.agent_dir = int(states.direction[i])
    kind, colour = (int(v) for v in states.carrying[i])
    world.carrying = None if kind == EMPTY else WorldObj.decode(kind, colour, 0)


def views(world: MiniGridEnv, states: States) -> np.ndarray:
    """What the agent sees in each state, drawn by minigrid, (n, 7, 7, 3) uint8.

    Args:
        world: One of the states' task; it is changed.
        states: n.
    """
    world.reset(seed=0)
    seen = np.zeros((len(states), VIEW, VIEW, 3), np.uint8)
    for i in range(len(states)):
        put(world, states, i)
        seen[i] = world.gen_obs()["image"]
    return seen
