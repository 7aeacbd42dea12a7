import dataclasses
from typing import Any, ClassVar, Protocol

import pytest

from dtx.stage import Stage, added, identity
from tests.toys import Number, Part, Sign, Sum


def test_key_depends_on_identity_fields_only():
    a = Number(value=1)
    assert a.key == Number(value=1).key
    assert a.key != Number(value=2).key
    assert a.key != Number(value=1, sign=Sign.MINUS).key
    assert a.key != Number(value=1, parts=(Part(weight=0.5),)).key
    assert a.key == Number(value=1, workers=8).key


def test_key_follows_inputs_and_version():
    one, two = Number(value=1), Number(value=2)
    total = Sum(left=one, right=two)
    assert total.key != Sum(left=two, right=one).key
    assert total.key == Sum(left=one, right=dataclasses.replace(two, workers=3)).key

    class Newer(Sum):
        version = 2

    newer = dataclasses.dataclass(frozen=True, kw_only=True)(Newer)(left=one, right=two)
    assert newer.key != total.key


def test_a_number_means_the_same_as_int_and_as_float():
    assert (
        Number(value=1, parts=(Part(weight=1),)).key
        == Number(value=1, parts=(Part(weight=1.0),)).key
    )


def test_a_field_that_was_added_later_changes_no_key_until_it_is_used():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Older:
        identity_name: ClassVar[str] = "toys.Grown"
        weight: float

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Grown:
        identity_name: ClassVar[str] = "toys.Grown"
        weight: float
        share: float = dataclasses.field(metadata=added(before=1.0))

    assert identity(Grown(weight=2, share=1)) == identity(Older(weight=2))
    assert identity(Grown(weight=2, share=0.5)) != identity(Older(weight=2))


def test_a_value_that_has_no_identity_is_refused():
    with pytest.raises(TypeError, match="cannot be a set"):
        identity({"a": {1}})


def test_inputs_are_the_nested_stages():
    total = Sum(left=Number(value=1), right=Number(value=2))
    assert {k: v.value for k, v in total.inputs().items()} == {"left": 1, "right": 2}
    assert total.config()["left"] == total.left.label
    assert total.label == f"{total.name}-{total.key}"


class Shape(Protocol):
    area: float


@dataclasses.dataclass(frozen=True)
class Square:
    side: float

    @property
    def area(self) -> float:
        return self.side**2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawing(Stage):
    exact: Square
    perhaps: Square | None
    open_: Shape
    anything: Any
    many: dict[str, Square]
    mixed: tuple[Shape, ...]


def test_a_config_names_the_class_of_a_value_that_the_field_leaves_open():
    one = Square(2.0)
    drawing = Drawing(
        exact=one, perhaps=one, open_=one, anything=one, many={"a": one}, mixed=(one, one)
    )
    named = {"_target_": "tests.test_stage.Square", "side": 2.0}
    assert drawing.config() == {
        "exact": {"side": 2.0},
        "perhaps": {"side": 2.0},
        "open_": named,
        "anything": named,
        "many": {"a": {"side": 2.0}},
        "mixed": [named, named],
    }
