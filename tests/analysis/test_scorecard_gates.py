"""Statements are counted as what they are, and a gate does not change without a line in the changelog."""

from __future__ import annotations

import dataclasses
import re
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dtx.analysis.core.answers import FINDING, Subject, answers_of
from dtx.analysis.core.listing import built_in
from dtx.analysis.core.result import About, Check, Claim, Control, Relation, Result, Verdict
from dtx.analysis.core.scoring import Scoring, Wrong
from dtx.analysis.core.truth import TOGETHER
from dtx.analysis.scorecard.claims import TRUTHS, truth_of
from dtx.analysis.scorecard.compute import score
from dtx.analysis.scorecard.gates import Case, statements
from dtx.config.compose import build_group
from dtx.dt.planted.truth import circuit


@pytest.fixture(scope="module")
def stage():
    return build_group("analysis/scorecard", ["pairs.dataset=null"])


def claims(*rows: tuple[str, Verdict, About]) -> Result:
    made = [
        Claim(id=id, text=id, criterion="", evidence="", verdict=verdict, about=about)
        for id, verdict, about in rows
    ]
    control = Control(name="c", value=1.0, must_be=Relation.ABOVE, against=0.0)
    check = Check(name="x", error=0.0, tolerance=0.0)
    return Result(metrics={}, checks=[check], controls=[control], claims=made)


def said(result: Result, wrong: Wrong | None, truths: dict[str, bool]) -> dict[str, float]:
    subject = Subject(result=result, model=None, circuit=None, wrong=wrong, positive=0.1)
    answers = answers_of(subject, [], truths.get)
    return dict(zip(answers["what"], answers["score"] - 10 * answers["label"], strict=True))


def test_statements_are_counted_and_depends_is_one():
    result = claims(
        ("a", Verdict.CONFIRMED, About.MODEL),
        ("b", Verdict.DEPENDS, About.REWARD_TO_GO),
        ("c", Verdict.NOT_DECIDED, About.REWARD_TO_GO),
        ("d", Verdict.CONFIRMED, About.INSTRUMENT),
    )
    assert said(result, Wrong.everything, {}) == {"a": 1, "b": 1, "c": 0}
    assert said(result, Wrong.reward_to_go, {}) == {"b": 1, "c": 0}
    # Of a known model: what is false must not be said, in part neither; what is true must be confirmed.
    assert said(result, None, {"a": False, "b": True}) == {"a": 1, "b": -10}
    # A finding without claims is a statement if it is established.
    assert said(claims(), Wrong.everything, {}) == {FINDING: 1}
    assert said(claims(), Wrong.reward_to_go, {}) == {}
    failed = dataclasses.replace(claims(), controls=[])
    assert said(failed, Wrong.everything, {}) == {FINDING: 0}
    about_rtg = dataclasses.replace(claims(), about=About.REWARD_TO_GO)
    assert said(about_rtg, Wrong.reward_to_go, {}) == {FINDING: 1}


def test_a_false_statement_is_one_that_is_made_or_a_true_one_refuted():
    of = {"part": "claims", "edit": "", "position": TOGETHER, "expected": np.nan}
    rows = pd.DataFrame(
        [
            ("true, confirmed", 1.0, 1.0, "confirmed"),
            ("true, silent", 0.0, 1.0, "not established"),
            ("true, undecided", 0.0, 1.0, "not decided"),
            ("true, refuted", 0.0, 1.0, "not confirmed"),
            ("false, in part", 1.0, 0.0, "depends"),
            ("false, refuted", 0.0, 0.0, "not confirmed"),
        ],
        columns=["what", "score", "label", "verdict"],
    ).assign(**of)
    found = {row["measure"]: row for row in score(rows, 0.1)}
    assert found["false_statements"]["value"] == pytest.approx(2 / 6)
    assert found["false_statements"]["which"] == "true, refuted, false, in part"
    assert found["recall"]["value"] == 0.25


def test_all_statements_of_a_negative_are_counted_together(stage):
    def case(name: str, *made: float) -> Case:
        rows = [(f"{name}{i}", value, 0.0) for i, value in enumerate(made)]
        answers = pd.DataFrame(rows, columns=["what", "score", "label"]).assign(part="claims")
        subject = Subject(
            result=claims(), model=None, circuit=None, wrong=Wrong.everything, positive=0.1
        )
        return Case("untrained", "T4", name, Scoring(), subject, answers)

    few = list(statements(stage.gates, [case("a", *[0.0] * 12), case("b", 1.0, *[0.0] * 7)]))
    many = list(statements(stage.gates, [case("a", *[0.0] * 10), case("b", 1.0, *[0.0] * 7)]))
    assert [gate.decides.holds for gate in (*few, *many)] == [True, False]
    assert many[0].found == "1 of 18 (b: b0)"


def test_every_gate_has_a_date_and_a_reason_and_the_changelog_tells_its_value(stage):
    """A gate that is changed needs a line: the newest one that names it tells value and date."""
    log = Path("CHANGELOG.md").read_text()
    limits = {f.name: getattr(stage.gates, f.name) for f in dataclasses.fields(stage.gates)}
    for name, limit in limits.items():
        date.fromisoformat(limit.since)
        assert len(limit.reason) > 20
        told = re.search(rf"gate `{name}` ([\d.]+) \(([\d-]+)\): \S", log)
        assert told, f"CHANGELOG.md has no line: gate `{name}` VALUE (DATE): REASON"
        assert (float(told[1]), told[2]) == (limit.value, limit.since), name


def test_claims_of_built_in_analyses_are_known_to_be_true_or_not(stage):
    planted = {name: model for name, model in stage.known.items() if name != "interchange"}
    circuits = {name: circuit(model) for name, model in planted.items()}  # type: ignore[arg-type]
    plain, relay = circuits["planted"], circuits["harder"]
    assert truth_of("activation_patching", "instruction_flip_moves", plain) is True
    assert truth_of("activation_patching", "instruction_flip_moves", relay) is False
    assert truth_of("lens", "prediction_forms_inside", plain) is True
    assert truth_of("lens", "prediction_forms_inside", relay) is False  # in the last block's MLP
    assert truth_of("circuits", "heads_compose", relay) is True
    assert truth_of("circuits", "heads_compose", plain) is False
    moved = "reward_to_go_moves_attention"
    assert truth_of("attention", moved, circuits["superposed"]) is None
    assert truth_of("attention", moved, plain) is False
    assert truth_of("attention", moved, None) is None and truth_of("no such", "x", plain) is None
    of_rtg = "rtg_zero_0.892_denoise_circuit"
    assert truth_of("smallest_circuit", of_rtg, plain) is True
    assert truth_of("path_patching", "decoy_carried", plain) is False
    assert set(TRUTHS) <= set(built_in())
