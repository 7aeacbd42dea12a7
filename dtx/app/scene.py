"""The scene: all that the explorer's page shows, and its only state.

The server keeps no session: each request carries its scene. :mod:`dtx.app.address` writes it as the fragment
of a URL. What comes in may be anything; out comes a valid scene, and a message for each part that was not.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

VERSION = 1
LETTERS = "lrfpdtn"
"""A letter for each of MiniGrid's actions, in their order: left right forward pickup drop toggle done."""
MOST_MODELS, MOST_ACTIONS, MOST_EDITS, MOST_PANELS = 4, 2000, 16, 24
MOST_TEXT = 2000
"""Characters of a text."""
LONGEST_NAME = 80
"""Characters of the name of an action or token."""
LARGEST = 1e6
"""Largest size of a number; a reward-to-go beyond it is a mistake."""
SIDES = ("original", "edited")
PARTS = {
    "m": "models",
    "env": "env",
    "w": "world",
    "a": "actions",
    "r": "reward_to_go",
    "e": "edits",
    "t": "cursor",
    "c": "contrast",
    "p": "panels",
    "v": "shown",
    "x": "text",
    "y": "edited_text",
}
"""Fields by their names in an address."""

_MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,99}(@\d{1,9})?", re.ASCII)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}", re.ASCII)
_PLACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,=/:-]{0,99}", re.ASCII)
_UNKNOWN = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,19}", re.ASCII)
_RAW = re.compile(r"[A-Za-z0-9_.~%/,:;=@*'()!-]{0,200}", re.ASCII)


class Message(NamedTuple):
    """What was wrong with a part of a scene, and what was taken instead."""

    part: str
    problem: str


@dataclass(frozen=True)
class OpenPanel:
    """A panel that is open, with the parameters that differ from its defaults."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """All that the page shows.

    Attributes:
        models: Up to four: the beginning of a key or a label, ``@135`` for a kept checkpoint,
            ``agent:fcaa`` for a teacher, ``demo`` for the model that ships, ``planted`` for the compiled one.
            The first one acts. Empty: the newest Decision Transformer.
        env: A config's name with fields, ``door_key,size=6``; empty: the first model's own.
        world: A layout's name, or ``seed:17``; empty: the first one.
        actions: A letter of :data:`LETTERS` each.
        reward_to_go: At the start; None: the best of the model's training data.
        tokens: Single R tokens by step, from 1.
        edits: Operations of a pairs file.
        cursor: Step of the state that is looked at, from 1; None: the last.
        contrast: Names of the two actions, or tokens, whose logits are compared; None: the environment's own.
        panels: Those that are open; None: those that are at first.
        shown: ``original`` or ``edited``: the side in the world and the timeline.
        text: What a model that reads text is given. edited_text: The other prompt of the pair; empty: none.
        unknown: Parts of a URL that this version does not know, as written.
    """

    models: tuple[str, ...] = ()
    env: str = ""
    world: str = ""
    actions: str = ""
    reward_to_go: float | None = None
    tokens: Mapping[int, float] = field(default_factory=dict)
    edits: tuple[Mapping[str, Any], ...] = ()
    cursor: int | None = None
    contrast: tuple[str, str] | None = None
    panels: tuple[OpenPanel, ...] | None = None
    shown: str = SIDES[0]
    text: str = ""
    edited_text: str = ""
    unknown: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """As plain values; see /docs/explorer.md."""
        return {
            "version": VERSION,
            "models": list(self.models),
            "env": self.env,
            "world": self.world,
            "actions": self.actions,
            "reward_to_go": self.reward_to_go,
            "tokens": {str(step): value for step, value in sorted(self.tokens.items())},
            "edits": [dict(edit) for edit in self.edits],
            "cursor": self.cursor,
            "contrast": None if self.contrast is None else list(self.contrast),
            "panels": None
            if self.panels is None
            else [{"name": p.name, "parameters": dict(p.parameters)} for p in self.panels],
            "shown": self.shown,
            "text": self.text,
            "edited_text": self.edited_text,
            "unknown": dict(self.unknown),
        }

    def part(self, *names: str) -> str:
        """Some of the fields as text: what caches are keyed by."""
        every = self.json()
        return json.dumps({name: every[name] for name in names}, sort_keys=True)

    def replace(self, **changes: Any) -> Scene:
        """The scene with some fields changed."""
        return dataclasses.replace(self, **changes)


def read(raw: Any) -> tuple[Scene, list[Message]]:
    """The scene that plain values describe, whatever they are, and what was wrong with them."""
    messages: list[Message] = []
    if not isinstance(raw, Mapping):
        return Scene(), [Message("scene", "is no mapping; the first scene is shown")]
    readers: dict[str, Callable[[Any, list[Message]], Any]] = {
        "models": _models,
        "env": _text_reader("env", "a config's name, as in door_key,size=6"),
        "world": _text_reader("world", "a layout's name or seed:17"),
        "actions": _actions,
        "reward_to_go": lambda value, told: _number(value, "reward_to_go", told),
        "tokens": _tokens,
        "edits": _edits,
        "cursor": _cursor,
        "contrast": _contrast,
        "panels": _panels,
        "shown": _shown,
        "text": lambda value, told: _text(value, "text", told),
        "edited_text": lambda value, told: _text(value, "edited_text", told),
        "unknown": _unknown,
    }
    found: dict[str, Any] = {}
    for name, value in raw.items():
        if name in readers:
            found[name] = readers[name](value, messages)
        elif name != "version":
            messages.append(Message(str(name)[:40], "is no part of a scene; it is left out"))
    return Scene(**found), messages


def plain(value: Any, depth: int = 2) -> bool:
    """Whether a value can stand in an edit or a panel's parameter: text, number, flag, list of whole
    numbers, mapping of names to such."""
    if isinstance(value, bool):
        return True
    if isinstance(value, (int, float)):
        return math.isfinite(value) and abs(value) <= LARGEST
    if isinstance(value, str):
        return len(value) <= 200 and value.isprintable()
    if isinstance(value, (list, tuple)):
        return 2 <= len(value) <= 8 and all(
            isinstance(x, int) and not isinstance(x, bool) and 0 <= x <= 1000 for x in value
        )
    if isinstance(value, Mapping) and depth:
        return 0 < len(value) <= 12 and all(
            isinstance(k, str) and _NAME.fullmatch(k) and plain(v, depth - 1)
            for k, v in value.items()
        )
    return False


def _models(value: Any, told: list[Message]) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        told.append(Message("models", "a list is wanted; the newest model is shown"))
        return ()
    good = [m for m in value if isinstance(m, str) and _MODEL.fullmatch(m)]
    told += [
        Message("models", f"{str(m)[:40]!r} is no model's name; it is left out")
        for m in value
        if m not in good
    ][:4]
    if len(good) > MOST_MODELS:
        told.append(Message("models", f"at most {MOST_MODELS} are shown side by side"))
    return tuple(good[:MOST_MODELS])


def _text_reader(part: str, wanted: str) -> Callable[[Any, list[Message]], str]:
    def reader(value: Any, told: list[Message]) -> str:
        if value == "" or (isinstance(value, str) and _PLACE.fullmatch(value)):
            return value
        told.append(Message(part, f"{wanted} is wanted, not {str(value)[:40]!r}"))
        return ""

    return reader


def _actions(value: Any, told: list[Message]) -> str:
    if not isinstance(value, str):
        told.append(Message("actions", "letters are wanted"))
        return ""
    good = "".join(c for c in value if c in LETTERS)
    if good != value:
        told.append(
            Message("actions", f"only {' '.join(LETTERS)} are actions; others are left out")
        )
    if len(good) > MOST_ACTIONS:
        told.append(Message("actions", f"only the first {MOST_ACTIONS} are played"))
    return good[:MOST_ACTIONS]


def _number(value: Any, part: str, told: list[Message]) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        told.append(Message(part, f"a number is wanted, not {str(value)[:40]!r}"))
        return None
    if abs(value) > LARGEST:
        told.append(Message(part, f"{value:g} is larger than {LARGEST:g}; that is taken"))
        return math.copysign(LARGEST, value)
    return float(value) + 0.0  # no -0


def _tokens(value: Any, told: list[Message]) -> dict[int, float]:
    if not isinstance(value, Mapping):
        told.append(Message("tokens", "a mapping of steps to numbers is wanted"))
        return {}
    found: dict[int, float] = {}
    for step, number in value.items():
        text = str(step)
        known = re.fullmatch(r"[1-9]\d{0,3}", text, re.ASCII)
        read_number = _number(number, f"tokens.{text[:10]}", told)
        if not known:
            told.append(Message("tokens", f"{text[:20]!r} is no step; steps count from 1"))
        elif read_number is not None:
            found[int(text)] = read_number
    return found


def _edits(value: Any, told: list[Message]) -> tuple[dict[str, Any], ...]:
    if not isinstance(value, (list, tuple)):
        told.append(Message("edits", "a list of operations is wanted"))
        return ()
    found = []
    for i, edit in enumerate(value[:MOST_EDITS]):
        op = edit.get("op") if isinstance(edit, Mapping) else None
        if isinstance(op, str) and _NAME.fullmatch(op) and plain(edit, 3):
            fields = {k: _listed(v) for k, v in edit.items() if k != "op"}
            found.append({"op": op} | fields)  # op first, as in an address
        else:
            told.append(Message(f"edits[{i}]", "is no operation of a pairs file; it is left out"))
    if len(value) > MOST_EDITS:
        told.append(Message("edits", f"only the first {MOST_EDITS} are made"))
    return tuple(found)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def _cursor(value: Any, told: list[Message]) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_ACTIONS + 1:
        told.append(Message("cursor", "the number of a step is wanted, from 1; the last is shown"))
        return None
    return value


def _contrast(value: Any, told: list[Message]) -> tuple[str, str] | None:
    if value is None:
        return None
    if (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(isinstance(x, str) and 0 < len(x) <= LONGEST_NAME and _sound(x) == x for x in value)
        and value[0] != value[1]
    ):
        return value[0], value[1]
    told.append(Message("contrast", "two different actions are wanted, as in left-right"))
    return None


def _panels(value: Any, told: list[Message]) -> tuple[OpenPanel, ...] | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)):
        told.append(Message("panels", "a list is wanted; those of the first page are shown"))
        return None
    found: list[OpenPanel] = []
    for panel in value:
        mapping = panel if isinstance(panel, Mapping) else {}
        name, parameters = mapping.get("name"), mapping.get("parameters", {})
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            told.append(Message("panels", f"{str(name)[:40]!r} is no panel's name"))
        elif name in (p.name for p in found):
            told.append(Message("panels", f"{name} is named twice; the first is shown"))
        elif parameters == {} or plain(parameters, 1):
            found.append(OpenPanel(name, {k: _listed(v) for k, v in parameters.items()}))
        else:
            told.append(Message(f"panels.{name}", "its parameters are not plain values"))
            found.append(OpenPanel(name))
    if len(found) > MOST_PANELS:
        told.append(Message("panels", f"at most {MOST_PANELS} are shown"))
    return tuple(found[:MOST_PANELS])


def _shown(value: Any, told: list[Message]) -> str:
    if value in SIDES:
        return value
    told.append(Message("shown", "original or edited is wanted"))
    return SIDES[0]


def _text(value: Any, part: str, told: list[Message]) -> str:
    if not isinstance(value, str):
        told.append(Message(part, "a text is wanted"))
        return ""
    sound = _sound(value)
    if sound != value:
        told.append(Message(part, "has halves of characters, which are left out"))
    if len(sound) > MOST_TEXT:
        told.append(Message(part, f"only the first {MOST_TEXT} characters are read"))
    return sound[:MOST_TEXT]


def _sound(text: str) -> str:
    """A text without lone surrogates, which no address can hold."""
    return text.encode(errors="ignore").decode()


def _unknown(value: Any, told: list[Message]) -> dict[str, str]:
    if not isinstance(value, Mapping):
        told.append(Message("unknown", "a mapping is wanted"))
        return {}
    kept = {
        k: v
        for k, v in list(value.items())[:8]
        if isinstance(k, str)
        and (_UNKNOWN.fullmatch(k) and k not in PARTS)
        and (isinstance(v, str) and _RAW.fullmatch(v))
    }
    for name in kept:
        told.append(Message(name, "this version does not know this part; it is kept in the URL"))
    if dropped := [str(name) for name in value if name not in kept]:
        told.append(Message("unknown", f"{dropped[0][:40]!r} is no part of a link; it is left out"))
    return kept
