"""Types of config fields with the values that they allow; the builder checks them.

::

    @dataclass(frozen=True, kw_only=True)
    class Entropy(Stage):
        windows: Count          # a whole number, at least 1
        temperature: Positive   # a number above 0
        seed: Seed              # a whole number, 0 or more

Every number has a bound on both sides: a learning rate of 1e300, or 10**18 episodes, is a slip that no
computation survives. Conditions on several values (``high`` must be above ``low``) belong in a stage's
``check()``; what a machine can hold is said by ``resources()``.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``; None: no limit. ``open_low`` and ``open_high`` leave the end out.

    Attributes:
        words: How an error says what is allowed.
    """

    words: str
    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, or None."""
        if self.low is not None and (value < self.low or (self.open_low and value == self.low)):
            return f"{self.words}, not {value:g}"
        if self.high is not None and (value > self.high or (self.open_high and value == self.high)):
            return f"{self.words}, not {value:g}"
        return None


MOST = 2**53
"""The largest number of things: up to there every whole number is exact as a float, too."""
AT_MOST = Range("is too large: counts go up to 2**53", high=MOST)
"""For a range of counts with words of its own."""


@dataclasses.dataclass(frozen=True)
class NotEmpty:
    """A list or a mapping with at least one entry."""

    words: str = "needs at least one"

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, or None."""
        return None if len(value) else self.words


@dataclasses.dataclass(frozen=True)
class Magnitude:
    """Numbers that float32, in which models compute, holds with their squares; 0 is one."""

    least: float = 1e-18
    most: float = 1e18

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, or None."""
        if value == 0 or self.least <= abs(value) <= self.most:
            return None
        return f"must lie between {self.least:g} and {self.most:g} in size (or be 0), not {value:g}"


MOST_SEED = 2**63 - 1

Count = Annotated[int, Range("must be at least 1", low=1), AT_MOST]
"""A whole number, at least 1."""
Natural = Annotated[int, Range("must be 0 or more", low=0), AT_MOST]
"""A whole number, 0 or more."""
Whole = Annotated[int, Range("must lie between -2**53 and 2**53", low=-MOST, high=MOST)]
"""A whole number, of either sign."""
Seed = Annotated[
    int, Range("must be 0 or more", low=0), Range("goes up to 2**63 - 1", high=MOST_SEED)
]
"""Seed of random numbers: a whole number, 0 or more."""
Number = Annotated[float, Magnitude()]
"""Any number that models can compute with: a reward-to-go that is asked for, a factor."""
Positive = Annotated[float, Range("must be above 0", low=0, open_low=True), Magnitude()]
"""A number above 0."""
NonNegative = Annotated[float, Range("must be 0 or more", low=0), Magnitude()]
"""A number, 0 or more."""
LearningRate = Annotated[
    float,
    Range("is a learning rate: above 0 and at most 100", low=0, high=100, open_low=True),
    Magnitude(),
]
"""How far a step of training goes."""
Share = Annotated[float, Range("is a share: between 0 and 1", low=0, high=1)]
"""A number between 0 and 1, both allowed."""
OpenShare = Annotated[
    float, Range("is a share: above 0 and below 1", low=0, high=1, open_low=True, open_high=True)
]
"""A number above 0 and below 1."""
PositiveShare = Annotated[
    float, Range("is a share: above 0 and at most 1", low=0, high=1, open_low=True)
]
"""A number above 0, at most 1."""
ShareBelowOne = Annotated[
    float, Range("must be at least 0 and below 1", low=0, high=1, open_high=True)
]
"""A number of at least 0, below 1."""
Correlation = Annotated[float, Range("is a correlation: between -1 and 1", low=-1, high=1)]
"""A number between -1 and 1."""


def problems(value: Any) -> Iterator[tuple[str, str]]:
    """Yield (field, what is wrong) for the fields of a dataclass object whose value is not allowed.

    Entries of lists and mappings are checked too: ``targets[1]``, ``shares.left``.
    """
    for name, hint in constrained(type(value)):
        yield from _problems(getattr(value, name), hint, name)


@functools.cache
def constrained(cls: type) -> tuple[tuple[str, Any], ...]:
    """(name, type) of the fields of a dataclass that have constraints."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = [f.name for f in dataclasses.fields(cls)]
    return tuple((name, hints[name]) for name in fields if _has_constraints(hints[name]))


def plain(hint: Any) -> Any:
    """A type without its own constraints: ``int`` of ``Count``. Those of its arguments stay."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def _has_constraints(hint: Any) -> bool:
    if typing.get_origin(hint) is Annotated:
        return True
    return any(_has_constraints(inner) for inner in typing.get_args(hint))


def _problems(value: Any, hint: Any, place: str) -> Iterator[tuple[str, str]]:
    if value is None:
        return
    if typing.get_origin(hint) is Annotated:
        inner, *constraints = typing.get_args(hint)
        for constraint in constraints:
            if isinstance(constraint, (Range, Magnitude, NotEmpty)) and (
                what := constraint.problem(value)
            ):
                yield place, what
                return
        yield from _problems(value, inner, place)
        return
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        some = next(h for h in inner if h is not type(None))
        yield from _problems(value, some, place)
    elif origin in (tuple, list):
        for i, entry in enumerate(value):
            of = inner[0] if Ellipsis in inner or origin is list else inner[i]
            yield from _problems(entry, of, f"{place}[{i}]")
    elif origin is dict:
        for key, entry in value.items():
            yield from _problems(entry, inner[1], f"{place}.{key}")
