"""The report: its lines say what the analyses found, and nothing that they did not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from omegaconf import OmegaConf

from dtx.analysis.core.claims import Claim, summarise, write_claims
from dtx.analysis.report import ReportPage
from dtx.analysis.report.lines import ESTABLISHED, NOT_ASKED, NOT_ESTABLISHED, lines
from dtx.config.build import ConfigError
from dtx.config.compose import build_group, compose, experiment
from dtx.figures import new
from dtx.report import Report, read_metrics
from dtx.run.runner import run
from dtx.stage import Stage


@dataclass(frozen=True, kw_only=True)
class Finding(Stage):
    """Claims what it is told to. Control: the same, untold. Exact check: it is as told."""

    verdict: str
    failed: tuple[str, ...]
    error: float

    def run(self, out: Path) -> None:
        report = Report(out)
        claim = Claim(claim="<b>it holds</b>", wanted="> 1", found="2", verdict=self.verdict)
        write_claims(report, [claim], self.failed)
        report.headline({"finding/identity_error": self.error, "finding/distinct_inputs": 12})
        figure, axes = new(mosaic=[["a"]])
        axes["a"].plot([0, 1])
        report.figure("line", figure)

    def summary(self) -> str:
        return summarise(self.path)


def made(**changes) -> Finding:
    values = {"verdict": "confirmed", "failed": (), "error": 1e-7} | changes
    return Finding(**values)


@pytest.fixture
def built(store, experiment_of):
    """Make the analyses and a report on them."""

    def make(analyses: dict[str, Stage]) -> ReportPage:
        report = ReportPage(analyses=analyses)
        run(experiment_of(report))
        return report

    return make


def by_question(analyses: dict[str, Stage]) -> dict[str, tuple[str, str]]:
    return {line.question: (line.status, line.answer) for line in lines(analyses)}


def test_claims_come_out_under_their_verdict(built):
    analyses = {"one": made(), "two": made(verdict="depends", error=2.0)}
    built(analyses)
    found = by_question(analyses)
    status, answer = found["What became of each declared hypothesis?"]
    assert status == ESTABLISHED
    assert answer == "confirmed: <b>it holds</b>\ndepends: <b>it holds</b>"
    status, answer = found["Are the instruments sound?"]
    assert status == ESTABLISHED and answer == "identity errors: finding 1e-07, finding 2"


def test_an_analysis_that_establishes_nothing_is_not_made_better(built):
    analyses = {"one": made(failed=("control as large",))}
    built(analyses)
    found = by_question(analyses)
    assert found["What became of each declared hypothesis?"][0] == NOT_ESTABLISHED
    assert found["Are the instruments sound?"][0] == NOT_ESTABLISHED


def test_what_was_not_chosen_is_not_asked(built):
    report = built({"one": made()})
    n = read_metrics(report.path)
    table = pd.read_parquet(report.path / "tables" / "lines.parquet")
    assert len(table) == n["report/lines"] == 10
    assert (table["status"] == NOT_ASKED).sum() == n["report/not_asked"] == 8
    assert "2 of 10 headline lines established" in report.summary()
    steered = table[table["question"].str.contains("steered")].iloc[0]
    assert steered["answer"] == "would be told by steering"


def test_the_page_stands_alone_and_shows_text_as_text(built):
    report = built({"one": made(), "two": made(failed=("identity 3 of 4",))})
    page = (report.path / "figures" / "report.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:|#)", page) and "<script" not in page
    assert page.count("data:image/png;base64,") == 2
    assert "&lt;b&gt;it holds&lt;/b&gt;" in page and "<b>it holds</b>" not in page
    assert "not established: identity 3 of 4" in page
    assert "the same, untold" in page and "it is as told" in page  # of the class's docstring
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


def test_lines_of_real_analyses(built):
    """Patching's line says where the effect lies, or that a shuffled donor brings as much."""
    stage = build_group("analysis/activation_patching", ["pairs.dataset=null", "dt=planted"])
    built({"patching": stage})
    status, flow = by_question({"patching": stage})["How does the information flow?"]
    assert status == ESTABLISHED
    assert "instruction_flip: before layer 0 at S1 (1.00)" in flow
    assert "L1 attn_out at S5 (1.00)" in flow
    _, decided = by_question({"patching": stage})[
        "Where does it decide, and what flips the decision?"
    ]
    assert (
        "instruction_flip: moves the logit difference by" in decided
        and "flips it in 100%" in decided
    )
