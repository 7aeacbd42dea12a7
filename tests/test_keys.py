"""Keys do not change by accident: an artefact of an earlier version of dtx must be found again.

``keys.json`` was written on 2026-11-29, before modules moved into packages. A key that changes on purpose is
changed there, too, and told in CHANGELOG.md.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dtx.config.compose import compose, experiment
from dtx.config.options import options
from dtx.running.plan import stages

KNOWN = json.loads(Path(__file__).with_name("keys.json").read_text())


@pytest.mark.parametrize("name", KNOWN)
def test_keys_are_those_of_earlier_stores(name: str):
    overrides = KNOWN[name]["overrides"]
    targets = experiment(compose(overrides), overrides).targets
    labels = sorted(stage.label for stage in stages(targets.values()))
    assert labels == KNOWN[name]["artefacts"]


def test_all_presets_and_analyses_of_that_time_are_held():
    there = {
        f"{group}/{o.name}" for group in ("experiment", "analysis") for o in options(None)[group]
    }
    assert {name for name in KNOWN if name.startswith(("experiment/", "analysis/"))} <= there
