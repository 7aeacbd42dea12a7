"""The report: its lines say what the analyses found, and nothing that they did not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import pytest
from omegaconf import OmegaConf

from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.listing import built_in
from dtx.analysis.core.result import About, Check, Claim, Control, Relation, Result, Verdict
from dtx.analysis.report import ReportPage
from dtx.analysis.report.lines import (
    ESTABLISHED,
    FAILED,
    HOLDS,
    INSTRUMENTS,
    NOT_ASKED,
    lines,
    results_of,
)
from dtx.config.build import ConfigError
from dtx.config.compose import build_group, compose, experiment
from dtx.figures import new
from dtx.report import read_metrics
from dtx.running.runner import run
from dtx.stage import Stage


@dataclass(frozen=True, kw_only=True)
class Judged(Analysis):
    """Comes out as its fields say."""

    question: ClassVar[str] = "Does it hold?"

    verdict: Verdict
    error: float
    control: float
    about: About

    def compute(self) -> Result:
        claim = Claim(
            id="holds",
            text="<b>it holds</b>",
            criterion="> 1",
            evidence="2",
            verdict=self.verdict,
        )
        return Result(
            finding="effect 2",
            metrics={"effect": 2.0},
            checks=[Check(name="twice is twice", error=self.error, tolerance=1e-3)],
            controls=[
                Control(name="untrained", value=2.0, must_be=Relation.ABOVE, against=self.control)
            ],
            claims=[claim],
            distinct_inputs=12,
            about=self.about,
        )

    def figures(self, result: Result) -> Iterator[tuple[str, Any]]:
        figure, axes = new(mosaic=[["a"]])
        axes["a"].plot([0, result.metrics["effect"]])
        yield "line", figure


def made(**changes) -> Judged:
    usual = {
        "verdict": Verdict.CONFIRMED,
        "error": 1e-7,
        "control": 1.0,
        "about": About.MODEL,
    }
    return Judged(**usual | changes)


@pytest.fixture
def built(store, experiment_of):
    """Make the analyses and a report on them."""

    def make(analyses: dict[str, Stage]) -> ReportPage:
        report = ReportPage(analyses=analyses)
        run(experiment_of(report))
        return report

    return make


def by_question(analyses: dict[str, Stage]) -> dict[str, tuple[str, str]]:
    summary = lines(analyses, results_of(analyses))
    return {line.question: (line.status, line.answer) for line in summary}


def test_a_line_has_an_answer_a_claim_each_with_its_verdict(built):
    analyses: dict[str, Stage] = {"one": made(), "two": made(verdict=Verdict.DEPENDS)}
    report = built(analyses)
    summary = lines(analyses, results_of(analyses))
    assert [[c.verdict for c in line.claims] for line in summary[:2]] == [
        [Verdict.CONFIRMED],
        [Verdict.DEPENDS],
    ]
    assert by_question(analyses)[INSTRUMENTS] == (HOLDS, "2 of 2 hold")
    n = read_metrics(report.path)
    assert n["report/confirmed"] == 1 and n["report/depends"] == 1


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        (Verdict.CONFIRMED, ESTABLISHED),
        (Verdict.DEPENDS, ESTABLISHED),
        (Verdict.NOT_CONFIRMED, "not confirmed"),
        (Verdict.NOT_DECIDED, "not decided"),
        (Verdict.NOT_APPLICABLE, "not applicable"),
    ],
)
def test_a_line_is_established_only_if_it_says_something(built, verdict, status):
    analyses: dict[str, Stage] = {"one": made(verdict=verdict)}
    report = built(analyses)
    assert by_question(analyses)["Does it hold?"][0] == status
    assert read_metrics(report.path)["report/established"] == (status == ESTABLISHED)


@pytest.mark.parametrize(("error", "status"), [(1e-7, HOLDS), (3.0, FAILED)])
def test_instruments_and_data_are_no_lines_about_the_model(built, error, status):
    analyses: dict[str, Stage] = {"one": made(about=About.DATA, error=error)}
    report = built(analyses)
    assert by_question(analyses)["Does it hold?"][0] == status
    n = read_metrics(report.path)
    assert n["report/asked"] == n["report/established"] == 0
    assert n["report/instruments_failed"] == 2 * (status == FAILED)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"error": 3.0}, "check failed: twice is twice: 3 is above 0.001"),
        ({"error": float("nan")}, "check not measured: twice is twice"),
        ({"control": 2.0}, "control failed: untrained: 2 is not above 2"),
        ({"control": float("nan")}, "control not measured: untrained"),
    ],
)
def test_a_broken_instrument_is_never_established(built, change, reason):
    analyses: dict[str, Stage] = {"one": made(**change)}
    report = built(analyses)
    found = by_question(analyses)
    assert found["Does it hold?"] == ("not established", f"not established ({reason}): effect 2")
    broken = "check" in reason
    assert found[INSTRUMENTS][0] == (FAILED if broken else HOLDS)
    n = read_metrics(report.path)
    assert n["report/confirmed"] == n["report/established"] == 0
    assert n["report/not_established"] == 1 and n["report/instruments_failed"] == broken
    page = (report.path / "figures" / "report.html").read_text()
    assert "FAILED" in page or "not measured" in page


def test_a_health_line_is_not_established_by_one_broken_check_among_many(built):
    analyses: dict[str, Stage] = {"one": made(), "two": made(error=3.0)}
    built(analyses)
    status, answer = by_question(analyses)[INSTRUMENTS]
    assert status == FAILED
    assert answer == "1 of 2 hold\ntwo: twice is twice: 3 > 0.001"


def test_what_was_not_chosen_is_not_asked(built):
    report = built({"one": made()})
    n = read_metrics(report.path)
    table = pd.read_parquet(report.path / "tables" / "lines.parquet")
    assert (table["status"] == NOT_ASKED).sum() == n["report/not_asked"] == len(built_in())
    assert n["report/asked"] == 1 and "1 of 1 lines established" in report.summary()
    lens = table[table["question"] == built_in()["lens"].question].iloc[0]
    assert lens["answer"] == "not run: add lens to `analysis=`"


def test_the_page_stands_alone_and_shows_text_as_text(built):
    report = built({"one": made(), "two": made(error=3.0)})
    page = (report.path / "figures" / "report.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:|#)", page) and "<script" not in page
    assert page.count("data:image/png;base64,") == 2
    assert "&lt;b&gt;it holds&lt;/b&gt;" in page and "<b>it holds</b>" not in page
    assert "check failed: twice is twice" in page
    assert "untrained: 2, must be above 1: holds" in page
    assert made().label in page


def test_others_are_all_analyses_chosen_beside_it():
    config = compose(["analysis=[demonstrations,report,equivalence]"])
    report = experiment(config).targets["report"]
    assert isinstance(report, ReportPage)
    assert set(report.inputs()) == {"analyses.demonstrations", "analyses.equivalence"}


def test_a_report_on_nothing_is_refused():
    with pytest.raises(ConfigError, match="nothing to report on"):
        build_group("analysis/report")


def test_two_reports_cannot_report_on_each_other():
    raw: Any = OmegaConf.to_container(compose(["analysis=[demonstrations,report]"]))
    raw["analysis"]["again"] = raw["analysis"]["report"]
    with pytest.raises(ConfigError, match="needs itself"):
        experiment(raw)
