"""Parameters of a real config: each once, and those that a part of it depends on."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from dtx.config.compose import compose, experiment
from dtx.config.parameters import Parameters
from dtx.running.plan import stages


def flat(raw: Any, resolved: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """The same by OmegaConf's own resolution of the whole config."""
    if isinstance(raw, Mapping) and raw:
        for name, inner in raw.items():
            yield from flat(inner, resolved[name], f"{place}.{name}" if place else str(name))
    else:
        yield place, str(raw if isinstance(resolved, Mapping) else resolved)


@pytest.mark.parametrize(
    "overrides", [[], ["analysis=[calibration,report,path_patching]", "seed=3"]]
)
def test_values_are_those_that_omegaconf_resolves(overrides):
    what = experiment(compose(overrides))
    values = Parameters(what.raw).values
    assert values == dict(flat(what.raw, what.config()))
    assert values["dt.seed"] == overrides[-1].rpartition("=")[2] if overrides else "0"


def test_a_place_has_what_it_depends_on_and_nothing_else():
    parameters = Parameters(experiment(compose()).raw)
    dataset = parameters.below("dataset")
    assert {name.split(".")[0] for name in dataset} == {"env", "agent", "dataset", "seed"}
    assert dataset["agent.env"] == "${env}" and dataset["env.size"] == "7"
    clone = parameters.below("analysis.calibration.behaviour_clone")
    assert {"dt.model.n_layers", "dataset.episodes", "agent.lr"} <= set(clone)
    own = [name for name in clone if name.startswith("analysis")]
    assert all(name.startswith("analysis.calibration.behaviour_clone.") for name in own) and own


def test_every_stage_has_a_place():
    what = experiment(compose(["analysis=[calibration,report]"]))
    targets = {f"analysis.{name}": stage for name, stage in what.targets.items()}
    places = Parameters(what.raw).places(targets)
    assert set(places) == {s.label for s in stages(what.targets.values())}
    calibration = what.targets["calibration"]
    named = {field: places[stage.label] for field, stage in calibration.inputs().items()}
    assert named == {
        "dataset": "dataset",
        "dt": "dt",
        "behaviour_clone": "analysis.calibration.behaviour_clone",
        "shuffled": "analysis.calibration.shuffled",
        "untrained": "analysis.calibration.untrained",
    }


def test_texts_and_lists_with_references_are_resolved():
    raw = {
        "seed": 3,
        "name": "x${seed}",
        "all": ["${seed}", 4],
        "to": "${group}",
        "group": {"a": 1},
    }
    values = Parameters(raw).values
    assert values == {"seed": "3", "name": "x3", "all": "[3, 4]", "to": "${group}", "group.a": "1"}
