"""Keys do not change by accident: an artefact of an earlier version of dtx must be found again.

``keys.json`` was written on 2026-11-29, before modules moved into packages. A key that changes on purpose is
changed there, too, and told in CHANGELOG.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtx.config.compose import compose, experiment
from dtx.config.options import options
from dtx.stage import Stage

KNOWN = json.loads(Path(__file__).with_name("keys.json").read_text())


def by_place(place: str, stage: Stage, seen: set[str]) -> Iterator[tuple[str, str]]:
    """(where it is in the graph and its name, key) of a stage and of all behind it, each once."""
    if stage.label not in seen:
        seen.add(stage.label)
        yield f"{place} {stage.name}", stage.key
        for field, inner in stage.inputs().items():
            yield from by_place(f"{place}.{field}", inner, seen)


@pytest.mark.parametrize("name", KNOWN)
def test_keys_are_those_of_earlier_stores(name: str):
    overrides = KNOWN[name]["overrides"]
    targets = experiment(compose(overrides), overrides).targets
    seen: set[str] = set()
    keys = dict(pair for name, stage in targets.items() for pair in by_place(name, stage, seen))
    assert keys == KNOWN[name]["keys"]


def test_all_presets_and_analyses_of_that_time_are_held():
    there = {
        f"{group}/{o.name}" for group in ("experiment", "analysis") for o in options(None)[group]
    }
    assert {name for name in KNOWN if name.startswith(("experiment/", "analysis/"))} <= there
