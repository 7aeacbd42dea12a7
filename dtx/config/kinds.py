"""What a field's type allows: is it configured by fields, which classes fit, and how errors name it."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from pathlib import Path
from typing import Any, Protocol

_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
}


@functools.cache
def is_component(hint: Any) -> bool:
    """Whether a type is a dataclass, which YAML configures by its fields."""
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def is_protocol(hint: Any) -> bool:
    """Whether a type is a protocol (``typing.is_protocol``, which Python has from 3.13 on)."""
    return isinstance(hint, type) and Protocol in hint.__bases__


@functools.cache
def protocol_members(protocol: type) -> frozenset[str]:
    """Public names that a protocol and those that it extends declare (``typing.get_protocol_members``)."""
    declared = [
        name
        for base in protocol.__mro__
        if is_protocol(base)
        for name in (*vars(base), *inspect.get_annotations(base))
    ]
    return frozenset(name for name in declared if not name.startswith("_"))


@functools.cache
def is_kind(hint: Any) -> bool:
    """Whether a field of this type takes an object that is configured by fields of its own."""
    return is_component(hint) or is_protocol(hint) or typing.get_origin(hint) is dict


def is_union(hint: Any) -> bool:
    """Whether a type is ``X | None`` or another union."""
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def alternatives(hint: Any) -> tuple:
    """The members of a union; another type alone."""
    return typing.get_args(hint) if is_union(hint) else (hint,)


def fits(cls: type, hint: Any) -> bool:
    """Whether an object of a class can stand where ``hint`` is wanted; protocols by their members' names."""
    if is_protocol(hint):
        return not missing(cls, hint)
    kind = typing.get_origin(hint) or hint  # dict of dict[str, Stage]
    return not isinstance(kind, type) or issubclass(cls, kind)


def missing(cls: type, protocol: type) -> list[str]:
    """Members of a protocol that a class has not."""
    fields = dataclasses.fields(cls) if is_component(cls) else ()
    return sorted(protocol_members(protocol) - {*dir(cls), *(f.name for f in fields)})


def words(hint: Any) -> str:
    """What is wanted, for an error: ``a whole number``, ``an Environment``, ``a list``."""
    hint = next(h for h in alternatives(hint) if h is not type(None))
    if typing.get_origin(hint) in (tuple, list):
        return "a list"
    name = hint.__name__ if isinstance(hint, type) else str(hint)
    return _NAMES.get(hint, f"{'an' if name[0] in 'AEIOU' else 'a'} {name}")


@functools.cache
def field_types(cls: type) -> dict[str, Any]:
    """The types of a dataclass's fields by name, with their ranges."""
    return typing.get_type_hints(cls, include_extras=True)


def dotted(cls: type) -> str:
    """A class as ``_target_`` names it."""
    return f"{cls.__module__}.{cls.__qualname__}"
