"""A scene as the fragment of a URL, readable by people: ``#1&m=064343ad&w=key/left&a=ffff&r=.892``.

``dtx/app/page/scene.js`` reads and writes the same; tests hold the two against each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import quote, unquote

from dtx.app.scene import PARTS, VERSION, Message, OpenPanel, Scene, read

LONGEST = 4000
"""Characters of an address; a scene with more is written, but told of."""
_AROUND, _INSIDE = "/,:;~=@*'()!", "/@*'()!"
"""Characters that stay as they are beside letters, digits, ``-_.``: of a text, and of a value in a part."""
_NUMBER = re.compile(r"-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII)
_CELL = re.compile(r"\d{1,4}(,\d{1,4})+", re.ASCII)
_BROKEN = re.compile(r"%(?![0-9A-Fa-f]{2})")


def parse(text: str) -> tuple[Scene, list[Message]]:
    """The scene of an address, whatever text it is; with or without ``#`` and what stands before it."""
    fragment = text.partition("#")[2] if "#" in text else text
    raw: dict[str, Any] = {}
    unknown: dict[str, str] = {}
    early: list[Message] = []
    for i, part in enumerate(fragment.split("&")):
        name, equals, value = part.partition("=")
        if i == 0 and not equals and re.fullmatch(r"\d*", name, re.ASCII):
            if name not in ("", str(VERSION)):
                early.append(Message("version", f"this is version {VERSION}, the link has {name}"))
        elif name in PARTS:
            _put(raw, name, value)
        elif part:
            unknown[name] = value
    if unknown:
        raw["unknown"] = unknown
    scene, messages = read(raw)
    return scene, early + messages


def address(scene: Scene) -> str:
    """The address of a scene, from ``#`` on; parts at their defaults are left out."""
    parts = {
        "m": "~".join(scene.models),
        "env": scene.env,
        "w": scene.world,
        "a": scene.actions,
        "r": _rewards(scene),
        "e": ";".join(_operation(edit) for edit in scene.edits),
        "t": "" if scene.cursor is None else str(scene.cursor),
        "c": "" if scene.contrast is None else "-".join(map(_compared, scene.contrast)),
        "p": None if scene.panels is None else "~".join(map(_panel, scene.panels)),
        "v": "" if scene.shown == "original" else scene.shown,
        "x": quote(scene.text, safe=_AROUND),
        "y": quote(scene.edited_text, safe=_AROUND),
    }
    written = [f"{name}={value}" for name, value in parts.items() if value]
    if scene.panels == ():
        written.append("p=")
    written += [f"{name}={value}" for name, value in scene.unknown.items()]
    return "#" + "&".join([str(VERSION), *written])


def _put(raw: dict[str, Any], name: str, value: str) -> None:
    """Add a part of an address to the plain values of a scene."""
    field = PARTS[name]
    if name == "m":
        raw[field] = [_decoded(m) for m in value.split("~")] if value else []
    elif name == "r":
        first, *rest = value.split(",")
        raw[field] = _value(first) if first else None
        single = [token.partition(":") for token in rest]
        raw["tokens"] = {_decoded(step): _value(number) for step, _, number in single}
    elif name == "e":
        raw[field] = [_fields(edit, "op") for edit in value.split(";")] if value else []
    elif name == "t":
        raw[field] = _value(value)
    elif name == "c":
        raw[field] = [_decoded(name) for name in value.split("-")]
    elif name == "p":
        panels = [_fields(panel, "") for panel in value.split("~")] if value else []
        raw[field] = [{"name": panel.pop(""), "parameters": panel} for panel in panels]
    else:
        raw[field] = _decoded(value)


def _fields(text: str, first: str) -> dict[str, Any]:
    """``set_type:select.role=instruction:to.ball=key`` as a mapping; its first word under ``first``."""
    word, *rest = text.split(":")
    found: dict[str, Any] = {first: _decoded(word)}
    for entry in rest:
        name, _, value = entry.partition("=")
        *outer, last = name.split(".")
        inside = found
        for step in outer:
            inner = inside.setdefault(step, {})
            inside = inner if isinstance(inner, dict) else {}
        inside[last] = _value(value)
    return found


def _value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    if _NUMBER.fullmatch(text):
        whole = re.fullmatch(r"-?\d{1,15}", text, re.ASCII)
        return int(text) if whole else float(text)
    if _CELL.fullmatch(text):
        return [int(number) for number in text.split(",")]
    return _decoded(text)


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return number(value)
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    text = quote(str(value), safe=_INSIDE).replace("~", "%7E")  # quote() lets it stand
    if not isinstance(_value(text), str):  # a text that reads as something else
        text = f"%{ord(text[0]):02X}" + text[1:]
    return text


def _operation(edit: Mapping[str, Any]) -> str:
    return ":".join([quote(edit["op"], safe=""), *_entries(edit, ("op",), "")])


def _panel(panel: OpenPanel) -> str:
    return ":".join([quote(panel.name, safe=""), *_entries(panel.parameters, (), "")])


def _compared(name: str) -> str:
    """The name of an action or a token, whose own ``-`` is encoded."""
    return quote(name, safe=_INSIDE).replace("-", "%2D")


def _entries(values: Mapping[str, Any], without: tuple[str, ...], before: str) -> Iterable[str]:
    for name, value in values.items():
        if name in without:
            continue
        if isinstance(value, Mapping):
            yield from _entries(value, (), f"{before}{name}.")
        else:
            yield f"{before}{name}={_written(value)}"


def _rewards(scene: Scene) -> str:
    start = "" if scene.reward_to_go is None else number(scene.reward_to_go)
    single = [f"{step}:{number(value)}" for step, value in sorted(scene.tokens.items())]
    return ",".join([start, *single])


def number(value: float) -> str:
    """The shortest text that reads back to the number, as JavaScript writes it; no 0 before the dot."""
    if value == int(value):
        return str(int(value))
    text = repr(float(value))
    if "e" in text:
        digits, _, exponent = text.partition("e")
        small = abs(value) < 1e-6
        text = f"{digits}e{int(exponent)}" if small else format(Decimal(text), "f")
    return re.sub(r"^(-?)0\.", r"\1.", text)


def _decoded(text: str) -> str:
    """Percent-decoded; as it is where that fails, as the page does it."""
    if _BROKEN.search(text):
        return text
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text
