"""Facts of the world at every step of recorded episodes, and whether the agent was shown them.

A fact is true of the world whether the agent sees it or not (:mod:`dtx.env.facts`). In a window of steps it
is *shown now* (the view of the window's last step tells it), *shown earlier* (the last view of the window
that told it told what is true still), or *hidden*: then a model that knows it has it from somewhere else.

What is there by name: the facts of the task (``env.roles.facts``), ``cell_X_Y`` (what lies in a cell of the
world), and declared expressions over others. Each is computed when it is asked for, once for each distinct
state::

    facts = dataset.load_facts({"near_key": "abs(x - key_x) + abs(y - key_y) <= 1"})
    facts.column("door")  # (N,) text: open, closed, locked
    facts.availability("door", at, begin)  # (n,) of windows: steps begin to at

Letters: N steps of all episodes, D distinct states, n windows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import IntEnum
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from dtx.dataset.episodes import Episodes
from dtx.dataset.expressions import Expression
from dtx.dataset.reading import POSES, mapped
from dtx.dataset.replay import replayed
from dtx.env.environment import Environment
from dtx.env.facts import OBJECTS, Fact, States, StateTable, states_of, told_by
from dtx.env.roles import Roles, world_of
from dtx.errors import UserError
from dtx.text import suggest

_CELL = re.compile(r"cell_(\d{1,3})_(\d{1,3})")
_BITS = {"x": 8, "y": 8, "direction": 4, "carrying": 4, "carrying_colour": 4}
"""Of the columns of a pose, beside the world's number in 64 of them."""


class Availability(IntEnum):
    """What a window shows of a fact at its last step."""

    NOW = 0
    EARLIER = 1
    HIDDEN = 2


class Facts:
    """Facts at each step of episodes.

    Args:
        episodes: Of N steps.
        grids: (worlds, w, h, 3) uint8, the distinct grids.
        poses: The columns of ``poses.arrow``, (N,) each.
        roles: Of the task.
        derived: Expressions over facts, and over derived ones that stand before them, by name.
    """

    def __init__(
        self,
        episodes: Episodes,
        grids: np.ndarray,
        poses: Mapping[str, np.ndarray],
        roles: Roles,
        derived: Mapping[str, str] | None = None,
    ):
        self.episodes, self.grids, self.poses = episodes, grids, poses
        self._roles = roles
        self._derived = dict(derived or {})
        self._values: dict[str, np.ndarray] = {}
        self._last: dict[str, np.ndarray] = {}

    @staticmethod
    def read(
        folder: Path, env: Environment | None, derived: Mapping[str, str] | None = None
    ) -> Facts:
        """Those of a dataset's artefact.

        Datasets without recorded facts are played again where the task has a few known layouts (Memory).

        Raises:
            UserError: There are none, and they cannot be had; a file cannot be read; an expression is wrong.
        """
        episodes, roles = Episodes.read(folder), None if env is None else env.roles
        if env is None or roles is None:
            which = "names its environment" if env is None else f"of {type(env).__name__} has roles"
            raise UserError(f"{folder.name}: nothing {which}, so there are no facts")
        recorded = [folder / f"{name}.arrow" for name in ("poses", "worlds")]
        if any(path.exists() for path in recorded):
            grids, poses = _read(folder, len(episodes.action))
        elif env.decision is not None:
            grids, poses = replayed(episodes, env, folder.name)
        else:
            raise UserError(
                f"{folder.name}: no facts were recorded; record again with dataset.facts=true"
            )
        return Facts(episodes, grids, poses, roles, derived)

    @property
    def names(self) -> list[str]:
        """All facts: those of the task, derived ones, and the cells of the world."""
        columns, rows = self.grids.shape[1:3]
        cells = [f"cell_{x}_{y}" for y in range(rows) for x in range(columns)]
        return [*self._facts, *cells]

    def values(self, name: str) -> np.ndarray:
        """(v,) the distinct values that a fact has in these episodes, sorted."""
        return np.unique(self.fact(name).value)

    def column(self, name: str) -> np.ndarray:
        """(N,) the fact's value at each step: bool, integers or text."""
        value = self.fact(name).value
        return value[self.state]

    def fact(self, name: str) -> Fact:
        """The fact in each of the D distinct states.

        Raises:
            UserError: There is none of this name.
        """
        found = self._facts.get(name) or _cell(self.states, name)
        if found is None:
            raise UserError(f"no fact {name!r}{suggest(name, self.names)}")
        return found

    def last_shown(self, name: str) -> np.ndarray:
        """(N,) int64: the last step of the episode up to each step whose view tells the fact; -1: none does.

        Of a fact that follows from others it is the earliest of theirs: from there on all were shown.
        """
        if name not in self._last:
            fact = self.fact(name)
            if fact.of:
                found = np.minimum.reduce([self.last_shown(other) for other in fact.of])
            else:
                steps = np.arange(len(self.state))
                told = np.where(fact.told(self._shown)[self.state], steps, -1)
                found = np.maximum.accumulate(told)
                found = np.where(found >= self._starts, found, -1)
            if _CELL.fullmatch(name):
                return found  # not kept: a world has hundreds of cells
            self._last[name] = found
        return self._last[name]

    def availability(
        self,
        name: str,
        at: np.ndarray | None = None,
        begin: np.ndarray | None = None,
        until: np.ndarray | None = None,
    ) -> np.ndarray:
        """What windows show of a fact at their last step, (n,) uint8 of :class:`Availability`.

        Args:
            name: Of the fact.
            at: (n,) last step of each window; None: each of the N steps.
            begin: (n,) first step of each window, in the same episode; None: the start of the episode.
            until: (n,) last step whose view the window holds: ``at``, or ``at - 1`` where the view of the
                last step is still to come; None: ``at``.
        """
        at = np.arange(len(self.state)) if at is None else np.asarray(at)
        begin = self._starts[at] if begin is None else np.asarray(begin)
        until = at if until is None else np.asarray(until)
        fact = self.fact(name)
        if fact.of:
            parts = [self.availability(other, at, begin, until) for other in fact.of]
            return np.maximum.reduce(parts)
        last = np.where(until >= begin, self.last_shown(name)[np.maximum(until, begin)], -1)
        same = fact.value[self.state[np.maximum(last, 0)]] == fact.value[self.state[at]]
        earlier = (last >= begin) & same
        return np.where(
            last == at,
            Availability.NOW,
            np.where(earlier, Availability.EARLIER, Availability.HIDDEN),
        ).astype(np.uint8)

    @cached_property
    def state(self) -> np.ndarray:
        """(N,) int64: which of the distinct states each step has."""
        return self._distinct[1]

    @cached_property
    def states(self) -> States:
        """The D distinct states."""
        first = self._distinct[0]
        return states_of(self.grids, {name: column[first] for name, column in self.poses.items()})

    @cached_property
    def _distinct(self) -> tuple[np.ndarray, np.ndarray]:
        """A step of each distinct state, (D,), and the state of each step, (N,)."""
        whole = self.poses["world"].astype(np.uint64)
        for name, bits in _BITS.items():
            whole = (whole << np.uint64(bits)) | self.poses[name].astype(np.uint64)
        _, first, index = np.unique(whole, return_index=True, return_inverse=True)
        return first, index

    @cached_property
    def _shown(self) -> np.ndarray:
        """(D, w, h) bool: which cells of the world are seen in each state."""
        episodes = self.episodes
        views = episodes.observations[episodes.observation[self._distinct[0]]]
        return self.states.shown(views)

    @cached_property
    def _starts(self) -> np.ndarray:
        """(N,) int64: the first step of each step's episode."""
        return np.repeat(self.episodes.start, self.episodes.length)

    @cached_property
    def _facts(self) -> dict[str, Fact]:
        return with_derived(self.states, self._roles, self._derived)


def _read(folder: Path, steps: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The distinct grids, and the columns of poses, views of the files."""
    poses = mapped(folder / "poses.arrow", POSES)
    path = folder / "worlds.arrow"
    cells = mapped(path, {"cells": np.uint8})["cells"]
    with pa.memory_map(str(path)) as source:
        about = pa.ipc.open_file(source).schema.metadata or {}
    sides = [about.get(name, b"") for name in (b"columns", b"rows")]
    problem = None
    if not all(side.isdigit() and 0 < int(side) < 256 for side in sides):
        problem = "worlds.arrow: does not say the size of the worlds"
    else:
        columns, rows = (int(side) for side in sides)
        grids = (
            cells.reshape(-1, columns, rows, 3) if cells.size % (columns * rows * 3) == 0 else None
        )
        if grids is None or (cells.reshape(-1, 3) >= (len(OBJECTS), 6, 3)).any():
            problem = "worlds.arrow: a cell is beyond MiniGrid's objects, colours or states"
        elif {len(column) for column in poses.values()} != {steps}:
            problem = f"poses.arrow: does not have the {steps} steps of the episodes"
        else:
            limits = (len(grids), columns, rows, 4, len(OBJECTS), 6)
            names = [n for n, limit in zip(POSES, limits, strict=True) if _beyond(poses[n], limit)]
            if names:
                problem = f"poses.arrow: {names[0]} is beyond what there is"
            else:
                return grids, poses
    raise UserError(f"{folder}: {problem}; `dtx invalidate {folder.name}` sets it aside")


def _beyond(column: np.ndarray, limit: int) -> bool:
    return bool(len(column)) and not 0 <= column.min() <= column.max() < limit


def _cell(states: States, name: str) -> Fact | None:
    """What lies in a cell of the world, ``cell_X_Y``; None: no such name or cell."""
    if (place := _CELL.fullmatch(name)) is None:
        return None
    cell = np.array([int(place[1]), int(place[2])])
    return told_by(states.type_at(cell), cell) if (cell < states.shape).all() else None


def with_derived(states: States, roles: Roles, derived: Mapping[str, str]) -> dict[str, Fact]:
    """The facts of some states with those that are declared over them.

    Raises:
        UserError: Of the first that is wrong: its name and what is wrong.
    """
    known = roles.facts(states)
    for name, text in derived.items():
        try:
            if not name.isidentifier() or name in known or _CELL.fullmatch(name):
                what = "is there already" if name in known else "cannot be a name of a fact"
                raise UserError(f"{name!r} {what}")
            expression = Expression(text)
            cells = {other: fact for other in expression.names if (fact := _cell(states, other))}
            value = expression.of({other: fact.value for other, fact in {**cells, **known}.items()})
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        known[name] = Fact(value, of=expression.names)
    return known


def check_derived(derived: Mapping[str, str], env: Environment) -> Iterator[tuple[str, str]]:
    """(name, what is wrong) of expressions over the facts of an environment, for a stage's ``check()``.

    Looks at one world of the environment: names and kinds of values are those of all.
    """
    if not derived:
        return
    roles = env.roles
    if roles is None:
        yield next(iter(derived)), f"{type(env).__name__} has no roles, so no facts"
        return
    made, table = env.make(), StateTable()
    made.reset(seed=0)
    columns = table.read([world_of(made)])
    made.close()
    states = states_of(table.grids, columns)
    known: dict[str, str] = {}
    for name, text in derived.items():
        try:
            with_derived(states, roles, {**known, name: text})
        except UserError as error:
            yield name, str(error).removeprefix(f"{name}: ")
        else:
            known[name] = text
