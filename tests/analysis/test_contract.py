"""What every analysis keeps to, whatever it is about: nobody names it here, it is found."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.listing import built_in
from dtx.analysis.core.result import Result, Verdict
from dtx.config.build import ConfigError
from dtx.report import RESULT, read_metrics
from dtx.running.plan import stages
from dtx.store import store as stores
from tests.agents import Constant
from tests.analysis.contract import small
from tests.legible import problems

CASES = ("memory", "door_key", "behaviour_clone", "untrained")
ALONE = [name for name, analysis in built_in().items() if name != "scorecard"]
"""All but the one that runs all others: tests/analysis/test_scorecard.py has it."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[stores.Store]:
    """One store for all cases, so that demonstrations and models are made once."""
    with stores.used(stores.Store(tmp_path_factory.mktemp("contract") / "store")) as store:
        yield store


def made(stage: Analysis, store: stores.Store, *, draws: bool) -> Path:
    """The artefact of an analysis, made if it is not there, its inputs first."""
    for each in stages([stage]):
        if not store.has(each):
            with store.work(each) as work:
                if each is stage and not draws:
                    stage.compute().write(work, stage.name)
                else:
                    each.run(work)
                store.commit(each, work, {})
    return store.artefact(stage)


@pytest.fixture(scope="module")
def analysis_of(rollouts, tiny):
    """An analysis in small, by name and case."""

    def make(name: str, case: str) -> Analysis:
        agent, dataset, dt = rollouts.agent, rollouts, tiny
        overrides: list[str] = []
        if case == "door_key":
            overrides = ["env=door_key", "pairs=door_key", "env.size=5", "env.max_steps=20"]
            from dtx.config.compose import build_group

            env = build_group("env/door_key", ["env.size=5", "env.max_steps=20"])
            dataset = dataclasses.replace(rollouts, env=env, episodes=60)
        dt = dataclasses.replace(tiny, dataset=dataset)
        if case == "behaviour_clone":
            dt = dataclasses.replace(dt, reward_to_go=False)
        if case == "untrained":
            optimiser = dataclasses.replace(dt.optimiser, warm_up=0)
            dt = dataclasses.replace(dt, steps=0, optimiser=optimiser)
        assert isinstance(agent, Constant)
        return small(name, overrides, dataset, dt, agent)

    return make


@pytest.mark.parametrize("name", built_in())
def test_it_is_declared_in_full(name):
    analysis = built_in()[name]
    assert analysis.question.endswith("?")
    declared = {field.name for field in dataclasses.fields(analysis)}
    assert {place.split(".")[0] for place in analysis.needs} <= declared


def cases() -> list:
    """(analysis, case). Those that train dictionaries, of untrained networks too, have one fast case."""
    long = [name for name in ALONE if "dictionary" in built_in()[name].__dataclass_fields__]
    return [
        pytest.param(
            name,
            case,
            id=f"{name}-{case}",
            # feature_effects trains most, and its own tests compute it whole.
            marks=pytest.mark.slow
            if name in long and (case != "memory" or name == "feature_effects")
            else (),
        )
        for name in ALONE
        for case in CASES
    ]


@pytest.mark.parametrize(("name", "case"), cases())
def test_every_analysis_keeps_the_contract(name, case, analysis_of, shared, tmp_path, monkeypatch):
    try:
        stage = analysis_of(name, case)
    except ConfigError as error:
        # Refused before anything runs: by what the analysis needs, or by its own check.
        assert case == "door_key" and (built_in()[name].needs or "check" in vars(built_in()[name]))
        assert all(
            "\n" not in line and place.startswith("analysis.") for place, line in error.errors
        )
        return
    assert not list(stage.missing())
    draws = case in ("memory", "door_key")  # other models of Memory are drawn alike
    folder = made(stage, shared, draws=draws)

    # result.json is complete, and is what everybody reads.
    result, recorded = stage.result(), json.loads((folder / RESULT).read_text())
    assert recorded["analysis"] == name and recorded["established"] is result.established
    # Where nothing could be measured there is nothing to check, and the problem says so.
    assert result.finding and (result.checks or result.problems)
    assert not any("/" in metric for metric in result.metrics)
    assert read_metrics(folder) == {f"{name}/{k}": v for k, v in result.metrics.items()}
    assert set(recorded["tables"]) <= set(result.tables)
    assert set(recorded["arrays"]) == set(result.arrays)
    assert len({claim.id for claim in result.claims}) == len(result.claims)
    assert all(claim.id.isidentifier() for claim in result.claims)
    assert all(c.text and c.criterion and c.evidence for c in result.claims)
    assert stage.summary() == result.summary
    assert stage.summary().startswith("not established (") is not result.established

    # What it declares as its headline is there, so that sweeps can show it.
    if case == "memory":
        assert any(value is not None for value in stage.headline_metrics().values())

    # What does not hold is not established, and neither are its claims.
    for place, check in enumerate(result.checks):
        for error in (2 * check.tolerance + 3.0, None):
            checks = list(result.checks)
            checks[place] = dataclasses.replace(check, error=error)
            broken = dataclasses.replace(result, checks=checks)
            assert not broken.established
            for before, claim in zip(result.claims, broken.claims, strict=True):
                asked = before.verdict is not Verdict.NOT_APPLICABLE  # else it stays so
                assert claim.verdict is (
                    Verdict.NOT_ESTABLISHED if asked else Verdict.NOT_APPLICABLE
                )

    # Figures are drawn again from what is on record; once is enough, in the case that draws most.
    assert not draws or list((folder / "figures").glob("*"))
    if case == "memory":
        readable(stage, Result.read(folder))
        redraws(stage, folder, tmp_path / "copy", monkeypatch)


def readable(stage: Analysis, result: Result) -> None:
    """Every figure says what was found and whether it is established, and all of it can be read."""
    found = {}
    for name, figure in stage.figures(result):
        if not isinstance(figure, Figure):
            continue
        found[name] = problems(figure)
        text = figure.texts[0].get_text() if figure.texts else ""
        assert result.established or text.startswith("Not established"), name
        plt.close(figure)
    assert not any(found.values()), found


def redraws(stage: Analysis, folder: Path, copy: Path, monkeypatch) -> None:
    """Drawing again, without computing, gives the same files to the bit."""
    shutil.copytree(folder, copy)

    def refuse(self) -> Result:
        raise AssertionError("redrawing computes")

    monkeypatch.setattr(type(stage), "compute", refuse)
    stage.redraw(copy)
    drawn = {p.name: p.read_bytes() for p in sorted((folder / "figures").glob("*"))}
    again = {p.name: p.read_bytes() for p in sorted((copy / "figures").glob("*"))}
    assert set(drawn) == set(again)
    assert [name for name in drawn if drawn[name] != again[name]] == []
