"""Edits as a pair file declares them: read, checked, applied.

Four kinds. A *state edit* changes the world before its first step. An *action edit* takes another action at
one step; what is seen after it follows from it. An *observation edit* changes what the agent sees at one step
of a run, and no world may ever show that. An *RTG edit* changes the reward-to-go that the model is given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

from dtx.config.ranges import Magnitude
from dtx.env.actions import ACTIONS
from dtx.env.encoding import VIEW
from dtx.text import suggest

if TYPE_CHECKING:
    from dtx.env.environment import Environment

TYPES = ("ball", "box", "door", "floor", "goal", "key", "lava", "wall")
COLOURS = ("blue", "green", "grey", "purple", "red", "yellow")
DOOR_STATES = ("open", "closed", "locked")
DIRECTIONS = ("right", "down", "left", "up")
"""Where the agent looks in the world at its start; the place is MiniGrid's number."""
STATE_OPS = {
    "set_type": ({"select", "to"}, set()),
    "set_colour": ({"select", "to"}, set()),
    "set_state": ({"select", "to"}, set()),
    "exchange": ({"a", "b"}, set()),
    "move": ({"select", "to"}, set()),
    "turn": ({"to"}, set()),
    "remove": ({"select"}, set()),
    "add": ({"type", "at"}, {"colour", "state"}),
}
ACTION_OPS = {"set_action": ({"step", "to"}, set())}
OBSERVATION_OPS = {
    "obs_add": ({"frame", "view", "type", "ood"}, {"colour"}),
    "obs_set": ({"frame", "view", "type", "ood"}, {"colour", "state"}),
}
RTG_OPS = {"set_rtg": ({"value", "scope"}, {"index"})}
OPS = STATE_OPS | ACTION_OPS | OBSERVATION_OPS | RTG_OPS
"""Operation to its fields: those needed, those that may be there."""
SCOPES = ("all", "last", "index")
COMPLEMENT = "complement"
"""Type of an observation edit: what the instruction is not."""
EMPTY, UNSEEN = "empty", "unseen"
"""More types of ``obs_set``: nothing in a cell, and a cell that the agent cannot see."""


@dataclasses.dataclass(frozen=True)
class Edit:
    """One operation of an edit.

    Attributes:
        name: Of the edit. place: Its number in the edit's list.
        op: A key of :data:`OPS`. fields: Its fields as declared.
    """

    name: str
    place: int
    op: str
    fields: Mapping[str, Any]

    @property
    def where(self) -> str:
        """Where it is declared: ``edits.swap_targets[0] (exchange)``."""
        return f"edits.{self.name}[{self.place}] ({self.op})"


class Impossible(Exception):
    """An edit that a world does not allow; its text names the edit and the cell."""

    def __init__(self, edit: Edit, reason: str):
        super().__init__(f"{edit.where}: {reason}")
        self.edit, self.reason = edit, reason


def read(edits: Mapping[str, Any]) -> dict[str, list[Edit]]:
    """Declared edits that :func:`problems` found nothing wrong with."""
    return {
        name: [
            Edit(name, i, raw["op"], {k: v for k, v in raw.items() if k != "op"})
            for i, raw in enumerate(steps)
        ]
        for name, steps in edits.items()
    }


def problems(edits: Mapping[str, Any], env: Environment) -> Iterator[tuple[str, str]]:
    """Yield (place, what is wrong) of declared edits, before any world is made.

    Args:
        edits: As composed from YAML.
        env: Has roles; they and the actions are what edits may name.
    """
    roles = env.roles
    assert roles is not None
    for name, steps in edits.items():
        if name in ("null", "donor_clean", "donor_corrupt"):
            yield f"edits.{name}", "is the name of a control that is always added; choose another"
        if not isinstance(name, str):
            yield f"edits.{name}", "is no text; write the name in quotes"
        if not steps:
            yield f"edits.{name}", "is empty; a pair without an edit, `null`, is always added"
        for i, raw in enumerate(steps):
            place = f"edits.{name}[{i}]"
            if not isinstance(raw, Mapping) or not isinstance(raw.get("op"), str):
                yield place, "needs an op: " + ", ".join(OPS)
            elif raw["op"] not in OPS:
                yield f"{place}.op", f"no operation {raw['op']!r}{suggest(raw['op'], list(OPS))}"
            else:
                yield from _problems(raw, place, roles.names)
                yield from _lacking(raw, place, env)


def _lacking(raw: Mapping, place: str, env: Environment) -> Iterator[tuple[str, str]]:
    """What operations name and the environment does not have."""
    name, roles = type(env).__name__, env.roles
    if raw.get("type") == COMPLEMENT and roles is not None and roles.complement is None:
        yield f"{place}.type", f"{name} has no complement; name a type"
    to = raw.get("to")
    if raw["op"] in ACTION_OPS and to in ACTIONS and to not in ACTIONS[: env.n_actions]:
        yield f"{place}.to", f"{to} is no action of {name}"


def _problems(raw: Mapping, place: str, roles: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    op = raw["op"]
    needed, optional = OPS[op]
    given = set(raw) - {"op"}
    for name in sorted(needed - given):
        yield f"{place}.{name}", f"{op} needs it"
    for name in sorted(given - needed - optional):
        yield f"{place}.{name}", f"{op} has no such field{suggest(name, sorted(needed | optional))}"
    for name in given & {"select", "a", "b"}:
        yield from _select_problems(raw[name], f"{place}.{name}", roles)
    if "to" in given & needed:
        yield from _to_problems(op, raw["to"], f"{place}.to")
    if "type" in given & needed:
        yield from _choice(raw["type"], TYPES + _MORE_TYPES.get(op, ()), f"{place}.type")
    if "colour" in given & optional:
        yield from _choice(raw["colour"], COLOURS, f"{place}.colour")
        if raw.get("type") in (EMPTY, UNSEEN):
            yield f"{place}.colour", f"a cell that is {raw['type']} has none"
    if "state" in given & optional:
        yield from _choice(raw["state"], DOOR_STATES, f"{place}.state")
        if raw.get("type") != "door":
            yield f"{place}.state", "is a door's"
    if op == "add" and "at" in given and not is_cell(raw["at"]):
        yield f"{place}.at", f"a cell [x, y] is wanted, not {raw['at']!r}"
    if op in ACTION_OPS and "step" in given:
        yield from _step_problems(raw["step"], f"{place}.step")
    if op in OBSERVATION_OPS:
        yield from _observation_problems(raw, place)
    if op in RTG_OPS:
        yield from _rtg_problems(raw, place)


_MORE_TYPES = {"obs_add": (COMPLEMENT,), "obs_set": (COMPLEMENT, EMPTY, UNSEEN)}


def _to_problems(op: str, to: Any, place: str) -> Iterator[tuple[str, str]]:
    if op == "move":
        if not is_cell(to):
            yield place, f"a cell [x, y] is wanted, not {to!r}"
        return
    if op in ACTION_OPS:
        yield from _choice(to, ACTIONS, place, "action")
        return
    if op == "turn":
        yield from _choice(to, DIRECTIONS, place, "direction")
        return
    known = {"set_type": TYPES, "set_colour": COLOURS, "set_state": DOOR_STATES}[op]
    pairs = to.items() if isinstance(to, Mapping) else [(None, to)]
    for before, after in pairs:
        if before is not None:
            yield from _choice(before, known, place)
        yield from _choice(after, known, f"{place}.{before}" if before else place)


def _select_problems(raw: Any, place: str, roles: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    known = {"role": roles, "type": TYPES, "colour": COLOURS, "position": None}
    if not isinstance(raw, Mapping) or not raw:
        yield place, "needs one or more of role, type, colour, position"
        return
    for name, value in raw.items():
        if name not in known:
            yield f"{place}.{name}", f"no such selector{suggest(str(name), list(known))}"
        elif name == "position":
            if not is_cell(value):
                yield f"{place}.position", f"a cell [x, y] is wanted, not {value!r}"
        else:
            yield from _choice(value, known[name] or (), f"{place}.{name}")


def _observation_problems(raw: Mapping, place: str) -> Iterator[tuple[str, str]]:
    view = raw.get("view")
    if "frame" in raw:
        yield from _step_problems(raw["frame"], f"{place}.frame")
    if "view" in raw and not (is_cell(view) and all(place < VIEW for place in view)):
        yield f"{place}.view", f"a cell [x, y] of the {VIEW}x{VIEW} view is wanted, not {view!r}"
    if "ood" in raw and raw["ood"] is not True:
        yield (
            f"{place}.ood",
            "must be true: no world may show this, so it is out of distribution",
        )


def _step_problems(step: Any, place: str) -> Iterator[tuple[str, str]]:
    if step not in ("first", "last") and not _is_count(step):
        yield place, f"first, last or the number of a step is wanted, not {step!r}"


def _rtg_problems(raw: Mapping, place: str) -> Iterator[tuple[str, str]]:
    value, scope = raw.get("value"), raw.get("scope")
    if "value" in raw and (isinstance(value, bool) or not isinstance(value, (int, float))):
        yield f"{place}.value", f"a number is wanted, not {value!r}"
    elif "value" in raw and (wrong := Magnitude().problem(value)):
        yield f"{place}.value", wrong
    if "scope" in raw:
        yield from _choice(scope, SCOPES, f"{place}.scope")
    if (scope == "index") != ("index" in raw):
        yield f"{place}.index", "goes with scope: index, and only with it (0: the first step)"
    elif "index" in raw and not _is_count(raw["index"]):
        yield f"{place}.index", f"the number of a step is wanted, not {raw['index']!r}"


def _choice(
    value: Any, known: tuple[str, ...], place: str, what: str | None = None
) -> Iterator[tuple[str, str]]:
    """``what`` is wanted: the last part of its place, if nothing else is said."""
    if value not in known:
        what = what or place.rpartition(".")[2]
        yield place, f"no {what} {value!r}{suggest(str(value), list(known))}"


def is_cell(value: Any) -> TypeGuard[Sequence[int]]:
    """Whether it is a list of two whole numbers, neither negative."""
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_count, value))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
