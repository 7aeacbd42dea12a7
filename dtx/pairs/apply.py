"""Apply edits: to a world before its first step, to a run's actions, observations and reward-to-go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dtx.env.actions import ACTIONS
from dtx.env.roles import Cell, Roles, Unsettled, agent_cell, things
from dtx.pairs.edits import (
    ACTION_OPS,
    COMPLEMENT,
    DIRECTIONS,
    DOOR_STATES,
    EMPTY,
    OBSERVATION_OPS,
    RTG_OPS,
    STATE_OPS,
    UNSEEN,
    Edit,
    Impossible,
)

if TYPE_CHECKING:
    from minigrid.core.world_object import WorldObj
    from minigrid.minigrid_env import MiniGridEnv

FIXED_COLOURS = {"goal": "green", "lava": "red", "wall": "grey", EMPTY: "red", UNSEEN: "red"}
"""The colour that MiniGrid gives a type that has only one; red is its number 0."""


def edit_world(world: MiniGridEnv, edits: Sequence[Edit], roles: Roles) -> None:
    """Apply state edits in place; the others are skipped.

    Args:
        world: At its start, not stepped yet.
        roles: Of the environment; it settles what the world keeps beside its grid.

    Raises:
        Impossible: The world does not allow it; says which edit and which cell.
    """
    state_edits = [edit for edit in edits if edit.op in STATE_OPS]
    for edit in state_edits:
        _OPERATIONS[edit.op](world, edit, roles)
    if not state_edits:
        return
    try:
        roles.settle(world)
    except Unsettled as reason:
        raise Impossible(state_edits[-1], str(reason)) from None


def selected(world: MiniGridEnv, edit: Edit, select: Mapping[str, Any], roles: Roles) -> list[Cell]:
    """Cells that meet all that is asked for.

    Raises:
        Impossible: None does, or one lies at the world's edge.
    """
    cells = [cell for cell, _ in things(world) if not _on_edge(world, cell)]
    agent = agent_cell(world)
    if "role" in select:
        cells = roles.where(world).get(select["role"], [])
    elif "position" in select:
        cells = [_cell(select["position"])]
    if "position" in select:
        cells = [cell for cell in cells if cell == _cell(select["position"])]
    if (kind := select.get("type")) is not None:
        cells = [c for c in cells if (thing := _at(world, edit, c)) and thing.type == kind]
    if (colour := select.get("colour")) is not None:
        cells = [c for c in cells if (thing := _at(world, edit, c)) and thing.color == colour]
    if not cells:
        asked = ", ".join(f"{k} {v}" for k, v in select.items())
        at = f" at {_cell(select['position'])}" if "position" in select else " in any cell"
        raise Impossible(edit, f"nothing with {asked}{at}")
    for cell in cells:
        if cell != agent:
            _at(world, edit, cell)  # not outside, not the edge
    return cells


def _set_type(world: MiniGridEnv, edit: Edit, roles: Roles) -> None:
    for cell, thing in _selected_things(world, edit, roles):
        to = _mapped(edit, thing.type, cell, "a")
        _put(world, cell, _made(to, thing.color, None))


def _set_colour(world: MiniGridEnv, edit: Edit, roles: Roles) -> None:
    for cell, thing in _selected_things(world, edit, roles):
        thing.color = _mapped(edit, thing.color, cell, "something")


def _set_state(world: MiniGridEnv, edit: Edit, roles: Roles) -> None:
    from minigrid.core.world_object import Door

    for cell, thing in _selected_things(world, edit, roles):
        if not isinstance(thing, Door):
            raise Impossible(edit, f"a {thing.type} at {cell} has no state; a door has")
        now = DOOR_STATES[2 if thing.is_locked else 0 if thing.is_open else 1]
        to = _mapped(edit, now, cell, "a door that is")
        thing.is_open, thing.is_locked = to == "open", to == "locked"


def _exchange(world: MiniGridEnv, edit: Edit, roles: Roles) -> None:
    ends = []
    for name in ("a", "b"):
        cells = selected(world, edit, edit.fields[name], roles)
        if len(cells) > 1:
            shown = ", ".join(map(str, cells))
            raise Impossible(edit, f"{name} must be one cell, but is {shown}")
        ends.append(cells[0])
    first, second = ends
    if agent_cell(world) in ends:
        raise Impossible(edit, f"the agent at {agent_cell(world)} cannot be exchanged")
    things_there = [world.grid.get(*cell) for cell in ends]
    if things_there == [None, None] or first == second:
        raise Impossible(edit, f"nothing to exchange at {first} and {second}")
    _put(world, first, things_there[1])
    _put(world, second, things_there[0])


def _move(world: MiniGridEnv, edit: Edit, roles: Roles) -> None:
    cells, to = selected(world, edit, edit.fields["select"], roles), _cell(edit.fields["to"])
    if len(cells) > 1:
        raise Impossible(
            edit,
            f"one thing can move to {to}, but {len(cells)} are selected: "
            + ", ".join(map(str, cells)),
        )
    _need_free(world, edit, to)
    if cells[0] == agent_cell(world):
        world.agent_pos = np.array(to) if isinstance(world.agent_pos, np.ndarray) else to
        return
    thing = world.grid.get(*cells[0])
    if thing is None:
        raise Impossible(edit, f"nothing stands at {cells[0]}")
    _put(world, cells[0], None)
    _put(world, to, thing)


def _turn(world: MiniGridEnv, edit: Edit, roles: Roles) -> None:
    world.agent_dir = DIRECTIONS.index(edit.fields["to"])


def _remove(world: MiniGridEnv, edit: Edit, roles: Roles) -> None:
    for cell, _ in _selected_things(world, edit, roles):
        _put(world, cell, None)


def _add(world: MiniGridEnv, edit: Edit, roles: Roles) -> None:
    cell, fields = _cell(edit.fields["at"]), edit.fields
    _need_free(world, edit, cell)
    _put(world, cell, _made(fields["type"], fields.get("colour", "green"), fields.get("state")))


_OPERATIONS = {
    "set_type": _set_type,
    "set_colour": _set_colour,
    "set_state": _set_state,
    "exchange": _exchange,
    "move": _move,
    "turn": _turn,
    "remove": _remove,
    "add": _add,
}


def _selected_things(world: MiniGridEnv, edit: Edit, roles: Roles) -> list[tuple[Cell, WorldObj]]:
    found = []
    for cell in selected(world, edit, edit.fields["select"], roles):
        thing = world.grid.get(*cell)
        if thing is None:
            who = "the agent stands" if cell == agent_cell(world) else "nothing stands"
            raise Impossible(edit, f"{who} at {cell}, not an object")
        found.append((cell, thing))
    return found


def _mapped(edit: Edit, now: str, cell: Cell, article: str) -> str:
    to = edit.fields["to"]
    to = to.get(now) if isinstance(to, Mapping) else to
    if to is None:
        raise Impossible(edit, f"{article} {now} at {cell}, which `to` does not mention")
    return to


def _need_free(world: MiniGridEnv, edit: Edit, cell: Cell) -> None:
    thing = _at(world, edit, cell)
    if thing is not None or cell == agent_cell(world):
        what = "the agent" if thing is None else f"a {thing.type}"
        raise Impossible(edit, f"{cell} is not free, {what} is there")


def _at(world: MiniGridEnv, edit: Edit, cell: Cell) -> WorldObj | None:
    x, y = cell
    if not (x < world.width and y < world.height):
        size = f"{world.width}x{world.height}"
        raise Impossible(edit, f"{cell} is outside the {size} world")
    if _on_edge(world, cell):
        raise Impossible(edit, f"{cell} is the outer wall, which must stay")
    return world.grid.get(*cell)


def _on_edge(world: MiniGridEnv, cell: Cell) -> bool:
    return cell[0] in (0, world.width - 1) or cell[1] in (0, world.height - 1)


def _put(world: MiniGridEnv, cell: Cell, thing: WorldObj | None) -> None:
    world.grid.set(*cell, thing)
    if thing is not None:
        thing.init_pos = thing.cur_pos = cell


def _made(kind: str, colour: str, state: str | None) -> WorldObj:
    from minigrid.core import world_object

    if kind == "door":
        return world_object.Door(colour, is_open=state == "open", is_locked=state == "locked")
    made = getattr(world_object, kind.capitalize())
    return made() if kind in ("goal", "lava") else made(colour)


def _cell(raw: Sequence[int]) -> Cell:
    return int(raw[0]), int(raw[1])


def given_actions(edits: Sequence[Edit], count: int) -> dict[int, int]:
    """What action edits ask for: the number of the new action by step, counted from 0.

    Args:
        edits: The others are skipped.
        count: Of the clean run's actions.

    Raises:
        Impossible: The run has no such step.
    """
    chosen = [edit for edit in edits if edit.op in ACTION_OPS]
    return {
        _step(edit, edit.fields["step"], count, "actions"): ACTIONS.index(edit.fields["to"])
        for edit in chosen
    }


def edit_actions(actions: np.ndarray, edits: Sequence[Edit]) -> np.ndarray:
    """Apply action edits to a run's actions (t - 1,) by number; the others are skipped.

    Returns:
        A copy. What is seen after a new action is not known from it: the run must be played.

    Raises:
        Impossible: The run has no such step.
    """
    edited = actions.copy()
    for step, action in given_actions(edits, len(actions)).items():
        edited[step] = action
    return edited


def edit_observations(seen: np.ndarray, edits: Sequence[Edit], roles: Roles) -> np.ndarray:
    """Apply observation edits to a run.

    Args:
        seen: (t, 7, 7, 3) uint8.
        edits: The others are skipped.
        roles: Of the environment; with a complement where an edit asks for that.

    Returns:
        A copy.

    Raises:
        Impossible: The run has no such step, or ``obs_add`` names a cell of the view that shows something.
    """
    from minigrid.core.constants import IDX_TO_OBJECT

    edited = seen.copy()
    for edit in edits:
        if edit.op not in OBSERVATION_OPS:
            continue
        frame = _step(edit, edit.fields["frame"], len(seen), "states")
        x, y = _cell(edit.fields["view"])
        there = IDX_TO_OBJECT[int(edited[frame, x, y, 0])]
        if edit.op == "obs_add" and there not in (EMPTY, UNSEEN):
            raise Impossible(
                edit, f"the view's cell ({x}, {y}) at step {frame} is not free, it shows a {there}"
            )
        kind = edit.fields["type"]
        if kind == COMPLEMENT:
            if roles.complement is None:
                raise Impossible(edit, "the environment names no complement; name a type")
            kind = roles.complement(seen[0])
        edited[frame, x, y] = _shown(edit, kind)
    return edited


def _shown(edit: Edit, kind: str) -> tuple[int, int, int]:
    """A cell of a view as MiniGrid encodes it: object, colour, state."""
    from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX

    colour, state = edit.fields.get("colour", "green"), 0
    if edit.op == "obs_set":
        colour = edit.fields.get("colour", FIXED_COLOURS.get(kind, "green"))
        state = STATE_TO_IDX[edit.fields.get("state", "closed")] if kind == "door" else 0
    return OBJECT_TO_IDX[kind], COLOR_TO_IDX[colour], state


def edit_rewards_to_go(reward_to_go: np.ndarray, edits: Sequence[Edit]) -> np.ndarray:
    """Apply RTG edits to a run's (t,) float32; the others are skipped.

    Raises:
        Impossible: The run has no such step.
    """
    edited = reward_to_go.copy()
    for edit in edits:
        if edit.op not in RTG_OPS:
            continue
        scope = edit.fields["scope"]
        where = slice(None) if scope == "all" else edit.fields.get("index", "last")
        if not isinstance(where, slice):
            where = _step(edit, where, len(edited), "states")
        edited[where] = edit.fields["value"]
    return edited


def _step(edit: Edit, place: str | int, count: int, what: str) -> int:
    """The number of a step of which a run has ``count``; ``what`` these are: states, actions."""
    number = place if isinstance(place, int) else {"first": 0, "last": count - 1}[place]
    if not 0 <= number < count:
        none = f"none is number {place}" if isinstance(place, int) else f"so there is no {place}"
        raise Impossible(edit, f"the run has {count} {what}, {none}")
    return number
