from dataclasses import dataclass
from typing import Annotated

import pytest

from dtx.config import ranges
from dtx.config.build import Builder, ConfigError
from dtx.config.ranges import Count, Natural, NotEmpty, OpenShare, Positive, Share


@dataclass(frozen=True, kw_only=True)
class Settings:
    count: Count
    start: Natural | None
    share: Share
    inner: OpenShare
    rates: Annotated[tuple[Positive, ...], NotEmpty()]
    pair: tuple[Share, Natural]
    named: dict[str, Count]


GOOD = {
    "count": 1, "start": None, "share": 1.0, "inner": 0.5, "rates": [0.1], "pair": [0, 3],
    "named": {"a": 2},
}  # fmt: skip


def build(**changes):
    builder = Builder({"at": {"_target_": f"{__name__}.Settings", **GOOD, **changes}})
    built = builder.at("at", Settings)
    builder.finish()
    return built


def test_allowed_values_are_converted():
    built = build(count="6/2", share=1)
    assert (built.count, built.share, built.rates, built.pair) == (3, 1.0, (0.1,), (0, 3))
    assert not list(ranges.problems(built))


@pytest.mark.parametrize(
    ("field", "value", "place", "words"),
    [
        ("count", 0, "count", "must be at least 1, not 0"),
        ("start", -1, "start", "must be 0 or more, not -1"),
        ("share", 1.5, "share", "is a share: between 0 and 1, not 1.5"),
        ("inner", 1, "inner", "is a share: above 0 and below 1, not 1"),
        ("inner", 0, "inner", "is a share: above 0 and below 1, not 0"),
        ("rates", [0.1, 0], "rates[1]", "must be above 0, not 0"),
        ("rates", [], "rates", "needs at least one"),
        ("pair", [0.5, -2], "pair[1]", "must be 0 or more, not -2"),
        ("named", {"a": 1, "b": 0}, "named.b", "must be at least 1, not 0"),
        ("count", "x", "count", "a whole number is wanted, not 'x'"),
    ],
)
def test_what_is_not_allowed_is_told_with_its_place(field, value, place, words):
    with pytest.raises(ConfigError) as error:
        build(**{field: value})
    assert error.value.errors == [(f"at.{place}", words)]


def test_all_at_once():
    with pytest.raises(ConfigError) as error:
        build(count=0, share=2)
    assert [place for place, _ in error.value.errors] == ["at.count", "at.share"]
