"""What an analysis needs is refused before anything runs; a result of its own is all that is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from dtx.analysis.core.analysis import Analysis, Need
from dtx.analysis.core.listing import built_in
from dtx.analysis.core.result import About, Check, Result
from dtx.config.build import Builder, ConfigError
from dtx.config.compose import build_group
from dtx.env.environment import Environment
from dtx.figures import new
from dtx.running.runner import run


@dataclass(frozen=True, kw_only=True)
class Doubled(Analysis):
    question: ClassVar[str] = "What is twice the number?"
    needs: ClassVar = {"env": Need.DECISION}

    env: Environment
    number: float

    def compute(self) -> Result:
        error = abs(2 * self.number - (self.number + self.number))
        return Result(
            finding=f"{2 * self.number:g}",
            metrics={"twice": 2 * self.number},
            checks=[Check(name="twice is a sum", error=error, tolerance=0.0)],
            about=About.INSTRUMENT,
        )

    def figures(self, result: Result) -> Iterator[tuple[str, Any]]:
        figure, axes = new(mosaic=[["a"]])
        axes["a"].bar([0], [result.metrics["twice"] or 0.0])
        yield "bar", figure


def test_needs_are_of_the_fields_named():
    memory, door_key = build_group("env/memory"), build_group("env/door_key")
    assert not list(Doubled(env=memory, number=1.0).missing())
    ((place, what),) = Doubled(env=door_key, number=1.0).missing()
    assert place == "env" and what.startswith("DoorKey names no decision")


@pytest.mark.parametrize("name", [n for n, a in built_in().items() if "env" in a.needs])
def test_an_analysis_without_its_decision_is_one_line(name):
    with pytest.raises(ConfigError) as error:
        build_group(f"analysis/{name}", ["env=door_key", "env.max_steps=50", "pairs=door_key"])
    lines = [line for line in str(error.value).splitlines() if "names no decision" in line]
    assert len(lines) == 1 and lines[0].startswith(f"analysis.{name}.env: DoorKey")


@dataclass(frozen=True, kw_only=True)
class Undefined(Analysis):
    number: float


def test_an_analysis_that_does_not_compute_is_refused_before_anything_runs():
    builder = Builder({"at": {"_target_": f"{__name__}.Undefined", "number": 1.0}})
    builder.at("at", Analysis)
    with pytest.raises(ConfigError) as error:
        builder.finish()
    assert error.value.errors == [("at._target_", f"{__name__}.Undefined does not define compute")]


def test_figures_are_drawn_from_the_record_without_computing(store, experiment_of, monkeypatch):
    stage = Doubled(env=build_group("env/memory"), number=2.0)
    run(experiment_of(stage))
    assert stage.summary() == "4" and stage.result().established
    folder = stage.path
    figure = folder / "figures" / "bar.png"
    before = figure.read_bytes()
    monkeypatch.setattr(Doubled, "compute", lambda self: 1 / 0)
    figure.unlink()
    stage.redraw(folder)
    assert figure.read_bytes() == before


def test_all_analyses_with_a_config_are_listed():
    there = {"calibration", "lens", "psychology", "activation_patching", "scorecard"}
    assert there <= set(built_in()) and "core" not in built_in() and "report" not in built_in()
