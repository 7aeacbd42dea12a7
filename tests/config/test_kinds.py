"""Which classes fit where, by the types of fields."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import pytest

from dtx.config.kinds import fits, is_protocol, protocol_members, words


class Named(Protocol):
    name: str

    def make(self) -> int: ...


class Sized(Named, Protocol):
    @property
    def size(self) -> int: ...


@dataclass(frozen=True)
class Thing:
    name: str
    kind: ClassVar[str] = "thing"
    size = 1

    def make(self) -> int:
        return 1


@dataclass(frozen=True)
class Nameless:
    size: int

    def make(self) -> int:
        return 1


def test_a_protocol_is_known_from_a_class_that_follows_it():
    class Follows(Named):
        name = "x"

    assert is_protocol(Named) and is_protocol(Sized)
    assert not is_protocol(Follows) and not is_protocol(Thing) and not is_protocol(int | None)


def test_members_are_those_of_the_extended_protocols_and_annotations_too():
    assert protocol_members(Sized) == {"name", "make", "size"}


@pytest.mark.parametrize(
    ("cls", "hint", "whether"),
    [
        (Thing, Named, True),
        (Thing, Sized, True),
        (Nameless, Sized, False),
        (dict, Named, False),
        (Thing, object, True),
        (Thing, Nameless, False),
        (bool, int, True),
        (dict, dict[str, int], True),
        (Thing, dict[str, int], False),
    ],
)
def test_what_fits(cls, hint, whether):
    assert fits(cls, hint) is whether


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        (int, "a whole number"),
        (float | None, "a number"),
        (tuple[int, ...], "a list"),
        (Nameless, "a Nameless"),
        (object, "a object"),
    ],
)
def test_words_of_errors(hint, said):
    assert words(hint) == said
