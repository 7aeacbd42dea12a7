"""Whether an object has all that a protocol declares, down to what its methods can be called with.

``env.decision`` of a user's environment is used only after hours of training: what it lacks is said before.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Iterator
from typing import Any

from dtx.config.kinds import alternatives, is_protocol, protocol_members
from dtx.text import first_line


def misfit(value: object, protocol: type) -> str | None:
    """What an object lacks of a protocol, in one line; None if it lacks nothing."""
    return "; ".join(_misfits(value, protocol, "")) or None


def _misfits(value: object, protocol: type, prefix: str) -> Iterator[str]:
    there = set(dir(value))
    if missing := sorted(protocol_members(protocol) - there):
        yield f"{prefix.rstrip('.') or 'it'} has no {', '.join(missing)}"
    for name in sorted(protocol_members(protocol) & there):
        member = inspect.getattr_static(protocol, name, None)
        if isinstance(member, types.FunctionType):
            yield from _call(getattr(value, name), member, f"{prefix}{name}")
        elif isinstance(member, property) and (wanted := _protocol_of(member)):
            try:
                inner = getattr(value, name)
            except Exception as error:  # whatever a user's own class does
                yield f"{prefix}{name} cannot be read: {first_line(error)}"
                continue
            if inner is not None:
                yield from _misfits(inner, wanted, f"{prefix}{name}.")
            elif type(None) not in alternatives(_returns(member)):
                yield f"{prefix}{name} is None"


def _call(method: Any, declared: types.FunctionType, place: str) -> Iterator[str]:
    """A method that cannot be called with the declared arguments, by their places."""
    names = list(inspect.signature(declared).parameters)[1:]
    call = f"{place}({', '.join(names)})"
    if not callable(method):
        yield f"{place} is no method: {call}"
        return
    try:
        inspect.signature(method).bind(*names)
    except TypeError as error:
        yield f"{call} is not possible: {error}"


@functools.cache
def _returns(member: property) -> Any:
    return typing.get_type_hints(member.fget).get("return")


def _protocol_of(member: property) -> type | None:
    """The protocol that a property's type names, if it names one."""
    return next((kind for kind in alternatives(_returns(member)) if is_protocol(kind)), None)
