"""Spaces as Hydra's overrides write them."""

import pytest

from dtx.config.build import ConfigError
from dtx.sweep.grid import parse
from dtx.sweep.search.space import Parameter, space


def of(*texts: str) -> list[Parameter]:
    return space(parse(texts, None))


def test_each_form_of_hydras_grammar_is_a_parameter():
    found = of(
        "a=interval(0,1)",
        "b=tag(log,interval(1e-4,1e-2))",
        "c=int(interval(1,5))",
        "d=range(1,9,2)",
        "e=range(0,1,0.25)",
        "f=choice(small,1)",
        "g=1,2",
    )
    assert found == [
        Parameter("a", (), 0, 1),
        Parameter("b", (), 1e-4, 1e-2, log=True),
        Parameter("c", (), 1, 5, whole=True),
        Parameter("d", (), 1, 7, 2, whole=True),
        Parameter("e", (), 0, 0.75, 0.25),
        Parameter("f", ("small", "1")),
        Parameter("g", ("1", "2")),
    ]


def test_numbers_are_written_with_digits_that_tell_the_space_apart():
    wide, narrow = Parameter("a", (), 0, 1e-2), Parameter("a", (), 0.9999, 0.99999)
    assert wide.written(0.00108658872) == "0.001087"
    assert float(narrow.written(0.999912345)) == pytest.approx(0.999912345, abs=1e-8)
    assert float(wide.written(0)) == 0 and float(narrow.written(0.99999)) == 0.99999
    assert Parameter("a", (), 1, 5, whole=True).written(3) == "3"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a=interval(2,1)", "2 is above 1"),
        ("a=tag(log,interval(0,1))", "above 0"),
        ("a=tag(logarithmic,interval(1,2))", "'logarithmic' means nothing"),
        ("a=range(3,1)", "no value"),
        ("a=tag(log,range(1,9,2))", "no step"),
        ("a=interval(0,inf)", "finite"),
        ("a=1", "no field is searched"),
    ],
)
def test_what_is_no_space_is_refused_in_one_line(text, what):
    with pytest.raises(ConfigError) as error:
        space([o for o in parse([text], None) if o.is_sweep_override()])
    assert what in str(error.value) and "\n" not in str(error.value)
