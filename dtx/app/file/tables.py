"""Worlds as tables of the states that can be reached, made by minigrid itself.

The page has no second environment: it looks up what each action does. Letters: s states, a actions,
g distinct grids, v distinct views, k distinct sets of cells that are seen, c reward curves.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dtx.app.play import seen_cells
from dtx.errors import UserError
from dtx.pairs.runs import act_once, copied

if TYPE_CHECKING:
    from minigrid.minigrid_env import MiniGridEnv

MOST_STATES = 20_000
"""Of one world; beyond it, a file would be too large."""
INSTEAD = "play it with `dtx app`, which runs minigrid"
_NOT_STATE = {
    "step_count",
    "_np_random",
    "_np_random_seed",
    "spec",
    "window",
    "clock",
    "render_size",
}
"""Attributes of a world that do not say what comes next, or are asked about apart."""


@dataclass(frozen=True)
class Table:
    """One world. Its first state is the start; a state in which the episode is over has no next ones.

    Attributes:
        grid: (s,) number of the state's grid in the :class:`Pool`. view, seen: (s,) the same of the agent's
            view and of the cells that it sees.
        agent: (s, 3) x, y, direction. carrying: (s, 3) object, colour, state; or -1.
        next: (s, a) state that an action leads to; -1 where the episode is over.
        reward: (s, a) number of the reward's curve.
    """

    grid: np.ndarray
    view: np.ndarray
    seen: np.ndarray
    agent: np.ndarray
    carrying: np.ndarray
    next: np.ndarray
    reward: np.ndarray

    @property
    def states(self) -> int:
        """s."""
        return len(self.grid)

    def arrays(self) -> dict[str, np.ndarray]:
        """As the page reads it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class Distinct:
    """Arrays, each kept once and numbered by its first time."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []
        self._numbers: dict[bytes, int] = {}

    def number(self, array: np.ndarray) -> int:
        """The number of an array, which is kept if it is new."""
        key = array.tobytes()
        if key not in self._numbers:
            self._numbers[key] = len(self.arrays)
            self.arrays.append(array.copy())
        return self._numbers[key]


class Pool:
    """What worlds of one environment share: grids, views and sets of seen cells once each, reward curves.

    Args:
        n_actions: Actions of the environment.
        horizon: Steps allowed in an episode.
    """

    def __init__(self, n_actions: int, horizon: int):
        self.n_actions, self.horizon = n_actions, horizon
        self.grids, self.views, self.seen = Distinct(), Distinct(), Distinct()
        self.curves = [np.zeros(horizon + 1)]

    def arrays(self) -> dict[str, np.ndarray]:
        """grids (g, W, H, 3), views (v, 7, 7, 3), seen (k, W, H) uint8; curves (c, horizon + 1) float64.

        A curve is the reward by the number of steps taken with it; curve 0 is no reward. Worlds of one
        environment are of one size.
        """
        return {
            "grids": np.stack(self.grids.arrays),
            "views": np.stack(self.views.arrays),
            "seen": np.stack(self.seen.arrays),
            "curves": np.stack(self.curves),
        }

    def table(self, world: MiniGridEnv, name: str) -> Table:
        """The table of a world; the pool takes up what is new in it.

        Args:
            world: Between two steps; it is copied.
            name: Of the world, for errors.

        Raises:
            UserError: An action's outcome is random, or there are too many states.
        """
        start = copied(world)
        start.step_count = 0
        rows = [self._row(start, start.gen_obs()["image"])]
        known = {(_mark(start), False): 0}
        after: dict[int, list[tuple[int, int]]] = {}
        waiting = deque([(0, start)])
        while waiting:
            number, here = waiting.popleft()
            after[number] = []
            for action in range(self.n_actions):
                there = copied(here)
                before = there.np_random.bit_generator.state
                view, reward, over, _ = act_once(there, action)
                if there.np_random.bit_generator.state != before:
                    raise UserError(f"world {name}: what an action does is random; {INSTEAD}")
                there.step_count = 0
                mark = (_mark(there), over)
                if mark not in known:
                    known[mark] = len(rows)
                    rows.append(self._row(there, view))
                    if not over:
                        waiting.append((known[mark], there))
                    if len(rows) > MOST_STATES:
                        raise UserError(
                            f"world {name}: more than {MOST_STATES:,} states can be reached; choose a "
                            f"smaller world, or {INSTEAD}"
                        )
                after[number].append((known[mark], self._curve(here, action, reward)))
        return _table(rows, after, self.n_actions)

    def _row(self, world: MiniGridEnv, view: np.ndarray) -> list[int]:
        x, y = world.agent_pos
        held = (-1, -1, -1) if world.carrying is None else world.carrying.encode()
        numbers = (
            self.grids.number(world.grid.encode()),
            self.views.number(view),
            self.seen.number(seen_cells(world).astype(np.uint8)),
        )
        return [*numbers, int(x), int(y), int(world.agent_dir), *held]

    def _curve(self, world: MiniGridEnv, action: int, first: float) -> int:
        """Number of the curve of an action's reward, ``first`` being that of an episode's first step."""
        if first == 0:
            return 0
        tried = (1, (1 + self.horizon) // 2, self.horizon)
        some = [_reward(world, action, step) for step in tried]
        for i, curve in enumerate(self.curves):
            if [curve[step] for step in tried] == some:
                return i
        every = [_reward(world, action, step) for step in range(1, self.horizon + 1)]
        self.curves.append(np.array([0.0, *every]))
        return len(self.curves) - 1


def draws_lots(world: MiniGridEnv, n_actions: int) -> bool:
    """Whether some action in a world's present state has a random outcome."""
    for action in range(n_actions):
        there = copied(world)
        before = there.np_random.bit_generator.state
        there.step(action)
        if there.np_random.bit_generator.state != before:
            return True
    return False


def _reward(world: MiniGridEnv, action: int, step: int) -> float:
    """The reward of an action that is the episode's ``step``-th."""
    there = copied(world)
    there.step_count = step - 1
    return act_once(there, action)[1]


def _table(rows: list[list[int]], after: dict[int, list[tuple[int, int]]], actions: int) -> Table:
    columns = np.array(rows, np.int32)
    following = np.full((len(rows), actions, 2), (-1, 0), np.int32)
    for number, every in after.items():
        following[number] = every
    return Table(
        grid=columns[:, 0],
        view=columns[:, 1],
        seen=columns[:, 2],
        agent=columns[:, 3:6],
        carrying=columns[:, 6:9],
        next=following[..., 0],
        reward=following[..., 1],
    )


def _mark(world: MiniGridEnv) -> tuple:
    """All that says how a world goes on, whatever the step; equal for equal states."""
    there = sorted((k, v) for k, v in vars(world).items() if k not in _NOT_STATE)
    return tuple(_plain(value, (id(world),)) for _, value in there)


def _plain(value: Any, around: tuple[int, ...]) -> Any:
    """A value as something that can be compared and hashed.

    Args:
        value: An attribute of a world, or a part of one.
        around: Ids of the objects that it lies in, which are not entered again.
    """
    if value is None or isinstance(value, (str, bytes, bool, float)):
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, np.ndarray):
        return tuple(value.ravel().tolist())  # as the tuple that minigrid has elsewhere
    if callable(value) or id(value) in around:
        return type(value).__name__
    inside = (*around, id(value))
    if isinstance(value, (list, tuple)):
        return tuple(_plain(item, inside) for item in value)
    if isinstance(value, dict):
        return tuple(sorted((str(k), repr(_plain(v, inside))) for k, v in value.items()))
    if isinstance(value, (set, frozenset)):
        return tuple(sorted(repr(_plain(item, inside)) for item in value))
    try:
        own = sorted(vars(value).items())
    except TypeError:  # a random number generator, say: it has no attributes to be read
        return type(value).__name__
    return (type(value).__name__, *((name, _plain(part, inside)) for name, part in own))
