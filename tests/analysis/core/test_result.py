"""One rule for what is established, and results that are read as they were written."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dtx.analysis.core.result import (
    About,
    Check,
    Claim,
    Control,
    Relation,
    Result,
    Verdict,
)
from dtx.analysis.core.verdicts import MINIMUM
from dtx.report import Report, read_metrics
from dtx.statistics import Estimate, enumerated, mean_estimate

CHECK = Check(name="parts add up", error=1e-7, tolerance=1e-5)
CONTROL = Control(name="untrained model", value=0.9, must_be=Relation.ABOVE, against=0.2)
CLAIM = Claim(
    id="it_holds", text="it holds", criterion="> 1", evidence="2", verdict=Verdict.DEPENDS,
    about=About.REWARD_TO_GO,
)  # fmt: skip


def result(**changes) -> Result:
    values = {
        "finding": "an effect of 2",
        "metrics": {"effect": 2.0, "missing": float("nan")},
        "checks": [CHECK],
        "controls": [CONTROL],
        "claims": [CLAIM],
        "distinct_inputs": 12,
    }
    return Result(**{**values, **changes})


def test_established_if_all_checks_and_controls_hold():
    whole = result()
    assert whole.established and not list(whole.reasons())
    assert whole.summary == "an effect of 2; it holds: depends"
    assert result(finding="").summary == "it holds: depends (2)"
    assert whole.metrics == {
        "identity_error": 1e-7, "distinct_inputs": 12.0, "effect": 2.0, "missing": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"checks": []}, "no exact check was made"),
        ({"checks": [CHECK, dataclasses.replace(CHECK, error=3.0)]}, "check failed: parts add up"),
        ({"checks": [dataclasses.replace(CHECK, error=None)]}, "check not measured: parts add up"),
        ({"checks": [dataclasses.replace(CHECK, error=math.inf)]}, "check not measured"),
        ({"controls": [dataclasses.replace(CONTROL, against=0.9)]}, "control failed: untrained"),
        ({"controls": [dataclasses.replace(CONTROL, value=None)]}, "control not measured"),
        ({"controls": [dataclasses.replace(CONTROL, against=math.nan)]}, "control not measured"),
        ({"problems": ["no pair differs"]}, "no pair differs"),
        ({"controls": []}, "no control was measured"),
        ({"controls": [dataclasses.replace(CONTROL, n=3)]}, "control on 3 observations"),
        (
            {"controls": [dataclasses.replace(CONTROL, value_interval=(0.1, 1.7))]},
            "control failed: untrained model: 0.9 [0.1, 1.7] is not, beyond its interval, above 0.2",
        ),
    ],
)
def test_otherwise_it_is_not_and_its_claims_are_withdrawn(changes, reason):
    broken = result(**changes)
    assert not broken.established
    assert [why for why in broken.reasons() if why.startswith(reason)]
    assert broken.summary.startswith("not established (") and "an effect of 2" in broken.summary
    assert broken.claim("it_holds").verdict is Verdict.NOT_ESTABLISHED


@pytest.mark.parametrize(
    ("relation", "below", "equal", "above"),
    [
        (Relation.ABOVE, False, False, True),
        (Relation.AT_LEAST, False, True, True),
        (Relation.AT_MOST, True, True, False),
        (Relation.BELOW, True, False, False),
    ],
)
def test_relations(relation, below, equal, above):
    holds = [
        Control(name="", value=v, must_be=relation, against=1.0).holds for v in (0.5, 1.0, 2.0)
    ]
    assert holds == [below, equal, above]


@pytest.mark.parametrize("about", [About.INSTRUMENT, About.DATA])
def test_instruments_and_data_need_no_control(about):
    assert result(controls=[], about=about).established


def test_what_has_no_object_is_not_withdrawn():
    claim = dataclasses.replace(CLAIM, verdict=Verdict.NOT_APPLICABLE)
    assert result(claims=[claim], problems=["x"]).claims == [claim]


def of(low: float, high: float, n: int = 8) -> Estimate:
    return Estimate((low + high) / 2, low, high, n, f"t over {n} layouts")


@pytest.mark.parametrize(
    ("value", "against", "above"),
    [
        (of(0.5, 0.7), of(0.1, 0.4), True),
        (of(0.5, 0.7), of(0.1, 0.5), None),
        (of(0.1, 0.4), of(0.5, 0.7), False),
        (of(0.5, 0.7), 0.4, True),
        (of(0.5, 0.7), 0.6, None),
        (of(0.5, 0.7), 0.7, False),
        (of(math.nan, math.nan), 0.4, None),
        (0.5, 0.4, True),
    ],
)
def test_intervals_must_be_apart(value, against, above):
    assert Relation.ABOVE.decides(value, against) is above
    assert Relation.BELOW.decides(against, value) is above
    if isinstance(value, Estimate):
        assert Control.of("c", value, Relation.ABOVE, against).holds is (above is True)


def test_a_control_on_too_few_observations_does_not_hold():
    assert not Control.of("c", of(0.5, 0.7, MINIMUM - 1), Relation.ABOVE, 0.1).holds
    assert not Control.of("c", mean_estimate([0.9]), Relation.ABOVE, 0.1).holds
    assert not Control.of("c", of(0.5, 0.7), Relation.ABOVE, mean_estimate([])).holds
    assert Control.of("c", enumerated(0.5, 2), Relation.ABOVE, 0.1).holds  # nothing was sampled


@pytest.mark.parametrize(
    ("conditions", "verdict"),
    [
        ([True, True], Verdict.CONFIRMED),
        ([True, None], Verdict.NOT_DECIDED),
        ([None, False], Verdict.NOT_CONFIRMED),
    ],
)
def test_a_claim_that_is_not_decided(conditions, verdict):
    assert Verdict.judge(conditions) is verdict


def test_it_is_read_as_it_was_written(tmp_path: Path):
    table = pd.DataFrame({"target": [0.0, 0.9], "layout": ["a", "b"], "hit": [True, False]})
    written = result(
        tables={"curve": table},
        arrays={"weights": np.arange(6.0).reshape(2, 3)},
        problems=["x"],
        controls=[CONTROL, Control.of("c", of(0.5, 0.7), Relation.ABOVE, of(0.1, 0.2))],
        about=About.REWARD_TO_GO,
    )
    written.write(tmp_path, "toy")
    read = Result.read(tmp_path)
    for field in (
        "finding",
        "metrics",
        "checks",
        "controls",
        "claims",
        "distinct_inputs",
        "about",
        "problems",
    ):
        assert getattr(read, field) == getattr(written, field), field
    pd.testing.assert_frame_equal(read.tables["curve"], table)
    assert np.array_equal(read.arrays["weights"], written.arrays["weights"])
    claims = read.tables["claims"]
    assert claims["verdict"].tolist() == ["not established"] and claims["id"].tolist() == [
        "it_holds"
    ]
    recorded = json.loads((tmp_path / "result.json").read_text())
    assert recorded["established"] is False and recorded["reasons"] == ["x"]
    assert recorded["checks"][0]["holds"] and recorded["controls"][0]["holds"]
    assert read_metrics(tmp_path)["toy/effect"] == 2.0


def test_an_artefact_from_before_keeps_its_numbers_and_is_not_established(tmp_path: Path):
    folder = tmp_path / "lens-0123456789abcdef"
    (folder / "tables").mkdir(parents=True)
    Report(folder).headline({"lens/formed_at": 3.0})
    Report(folder).table("points", pd.DataFrame({"kl": [0.1]}))
    old = Result.read(folder)
    assert old.metrics["formed_at"] == 3.0 and list(old.tables) == ["points"]
    assert not old.established and list(old.reasons()) == [
        "computed before checks and controls were recorded; `dtx invalidate lens-0123456789abcdef` and "
        "the same run compute it again"
    ]
    assert read_metrics(folder) == {"lens/formed_at": 3.0}


def test_a_claim_that_is_not_there():
    with pytest.raises(KeyError):
        result().claim("another")
