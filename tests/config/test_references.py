"""A reference to an object of the wrong kind is refused in ``plan``, in every field of every analysis."""

from __future__ import annotations

import copy
import functools
import re

import pytest

from dtx.config.build import Builder, ConfigError
from dtx.config.compose import CONF, compose, experiment
from dtx.config.kinds import alternatives, field_types, is_kind
from dtx.config.ranges import plain
from tests.required import required

ANALYSES = sorted(
    path.stem
    for path in (CONF / "analysis").glob("*.yaml")
    if f"@package analysis.{path.stem}" in path.read_text()  # the others are settings of these
)
GROUPS = ("env", "agent", "dataset", "dt", "pairs")


@functools.cache
def composed(name: str) -> dict:
    """The config of one analysis with references unresolved."""
    others = ["calibration"] if name == "report" else []  # it reports on the others
    chosen = f"analysis=[{','.join([*others, name])}]"
    config = compose([chosen, *required(f"analysis/{name}", f"analysis.{name}")])
    return Builder(config).config


def errors_of(config: dict) -> dict[str, str]:
    try:
        experiment(config)
    except ConfigError as error:
        return dict(error.errors)
    return {}


def group_of(value: object) -> str | None:
    """The group that a field's value refers to, itself or as the start of a changed copy."""
    reference = value.get("_base_") if isinstance(value, dict) else value
    found = re.fullmatch(r"\$\{(\w+)\}", reference) if isinstance(reference, str) else None
    return found[1] if found and found[1] in GROUPS else None


def fields_of_objects(name: str) -> list[str]:
    """Fields of an analysis that take an object: a stage or an environment."""
    hints = field_types(type(experiment(composed(name)).targets[name]))
    return [n for n, h in hints.items() if any(is_kind(plain(a)) for a in alternatives(plain(h)))]


def test_the_configs_as_they_are_have_no_errors():
    assert not {name: errors_of(composed(name)) for name in ANALYSES if errors_of(composed(name))}


@pytest.mark.parametrize("name", ANALYSES)
def test_a_reference_of_a_wrong_kind_is_refused_in_every_field(name):
    for field in fields_of_objects(name):
        own = group_of(composed(name)["analysis"][name][field])
        accepted = set()
        for group in GROUPS:
            config = copy.deepcopy(composed(name))
            config["analysis"][name][field] = f"${{{group}}}"
            errors = errors_of(config)
            if not errors:
                accepted.add(group)
            else:
                place = f"analysis.{name}.{field}"
                assert any(p == place for p in errors), f"{place}=${{{group}}}: {errors}"
        # Its own group may be refused for another reason: ${dt} is no behaviour clone.
        assert accepted <= {own} if own else len(accepted) <= 1, f"{field} takes {accepted}"
