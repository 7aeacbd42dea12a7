"""Gates: whether a score is what it must be, one rule for the table, the summary and the figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from dtx.analysis.core.answers import Subject
from dtx.analysis.core.result import CLAIMS, Check, Control, Relation
from dtx.analysis.core.scoring import Scoring
from dtx.analysis.scorecard.spec import T0, T1, T4, Limits

GATES = (
    "identities",
    "T0 exact",
    "statements",
    "confirmed",
    "T1 AUROC",
    "T4 false positives",
    "T4 statements",
)
ALL = "all analyses"
"""In the place of an analysis: a gate on all of them together."""
SMALL_IS_GOOD = ("error", "false_positives", "false_statements")


@dataclass(frozen=True)
class Case:
    """An analysis that was run on a model of which something is known.

    Attributes:
        model: Its name. kind: T0, T1 or T4. analysis: Its name.
        scoring: What the analysis is held to.
        subject: Its result, and what is known of the model.
        answers: What it answered, beside what is true; see core/answers.py.
    """

    model: str
    kind: str
    analysis: str
    scoring: Scoring
    subject: Subject
    answers: pd.DataFrame


@dataclass(frozen=True)
class Gate:
    """What one analysis of one model is held to.

    Attributes:
        decides: The check or the control that holds or does not.
    """

    COLUMNS: ClassVar = ("gate", "model", "analysis", "wanted", "found", "holds")

    gate: str
    model: str
    analysis: str
    wanted: str
    found: str
    decides: Check | Control

    @property
    def row(self) -> tuple:
        """Of the table."""
        shown = (self.gate, self.model, self.analysis, self.wanted, self.found)
        return (*shown, self.decides.holds)


def limit(limits: Limits, case: Case, part: str, measure: str) -> float | None:
    """What a measure must reach, or stay within; None: it is shown without a gate."""
    few = limits.most_false_positives.value
    if case.kind == T4:
        return few if measure == "false_positives" and part != CLAIMS else None
    if measure == "false_statements":
        return 0.0
    if case.kind == T1:
        return limits.least_auroc.value if measure == "auroc" and case.scoring.by_ranking else None
    if part in case.scoring.ungated:
        return None
    if case.scoring.estimates and part != CLAIMS:
        held = {"auroc": limits.least_auroc.value, "position": 1.0, "false_positives": few}
        return held.get(measure)
    assert case.subject.circuit is not None
    exact = {"recall": 1.0, "auroc": 1.0, "position": 1.0, "false_positives": 0.0}
    return {"error": case.subject.circuit.tolerance, **exact}.get(measure)


def keeps(measure: str, value: float, held_to: float) -> bool:
    """Whether a value is as it must be; one that is no number is not."""
    return value <= held_to if measure in SMALL_IS_GOOD else value >= held_to


def checks(case: Case) -> Iterator[Check]:
    """The analysis' own exact checks, those that could be measured in a negative."""
    for check in case.subject.result.checks:
        if case.kind != T4 or check.error is not None:
            yield check


def gates(case: Case, scores: pd.DataFrame) -> Iterator[Gate]:
    """Of one analysis of one model.

    Args:
        scores: Its rows, with ``limit`` and ``holds``.
    """
    where = f"{case.analysis} on {case.model}"
    if not case.subject.result.checks and case.kind != T4:
        missing = Check(name=f"{where}: exact check", error=None, tolerance=0.0)
        yield Gate("identities", case.model, case.analysis, "an exact check", "none", missing)
    for check in checks(case):
        named = Check(name=f"{where}: {check.name}", error=check.error, tolerance=check.tolerance)
        wanted = f"{check.name}: at most {check.tolerance:g}"
        found = "not measured" if check.error is None else f"{check.error:.2g}"
        yield Gate("identities", case.model, case.analysis, wanted, found, named)
    held = scores[scores["limit"].notna() & (scores["measure"] != "identity")]
    said = held["measure"] == "false_statements"
    if bool(said.to_numpy().any()):
        yield _all_of("statements", case, held[said], "no statement that is false")
    confirmed = (held["part"] == CLAIMS) & (held["measure"] == "recall")
    if bool(confirmed.to_numpy().any()):
        yield _all_of("confirmed", case, held[confirmed], "all that is true is confirmed")
    held = held[~said & (held["part"] != CLAIMS)]
    if case.kind == T0 and len(held):
        least = held.loc[held["measure"] == "auroc", "limit"]
        wanted = "all of the circuit at the right token, nothing else"
        if case.scoring.estimates:
            wanted = f"AUROC at least {least.min():g}, few others, at the right token"
        yield _all_of("T0 exact", case, held, wanted)
    if case.kind == T1 and case.scoring.by_ranking:
        yield _ranking(case, held, where)
    if case.kind == T4:
        for row in held.itertuples():
            part = f" ({row.part})" if row.part else ""
            control = Control(
                name=f"{where}{part}: share found though nothing is there",
                value=float(row.value),  # type: ignore[arg-type]
                must_be=Relation.AT_MOST,
                against=float(row.limit),  # type: ignore[arg-type]
            )
            found = f"{row.value:.1%} of {row.cells:.0f}{part}"
            wanted = f"at most {row.limit:.0%} found"
            yield Gate("T4 false positives", case.model, case.analysis, wanted, found, control)


def _all_of(gate: str, case: Case, held: pd.DataFrame, wanted: str) -> Gate:
    missed = [
        f"{f'{r.part} ' if r.part else ''}{str(r.measure).replace('_', ' ')} {r.value:.3g}"
        + (f": {r.which}" if r.which else "")
        for r in held[~held["holds"].astype(bool)].itertuples()
    ]
    name = f"{case.analysis} on {case.model}: measures that miss the truth"
    check = Check(name=name, error=len(missed), tolerance=0.0)
    return Gate(gate, case.model, case.analysis, wanted, "; ".join(missed) or "exact", check)


def _ranking(case: Case, held: pd.DataFrame, where: str) -> Gate:
    worst = held.sort_values("value")
    least = float(held["limit"].max()) if len(held) else None
    control = Control(
        name=f"{where}: AUROC of the circuit's nodes or edges",
        value=float(worst["value"].min()) if len(worst) else None,
        must_be=Relation.AT_LEAST,
        against=least,
    )
    found = "; ".join(f"{r.part} {r.value:.3f}" for r in worst.itertuples()) or "none measured"
    wanted = "an AUROC" if least is None else f"AUROC at least {least:g}"
    return Gate("T1 AUROC", case.model, case.analysis, wanted, found, control)


def statements(limits: Limits, cases: Sequence[Case]) -> Iterator[Gate]:
    """Of each negative, all analyses together: how many statements about it came out."""
    most = limits.most_statements.value
    for model in dict.fromkeys(case.model for case in cases if case.kind == T4):
        said = [
            (case.analysis, row.what, row.score > 0)
            for case in cases
            if case.model == model
            for row in case.answers[case.answers["part"] == CLAIMS].itertuples()
        ]
        if not said:
            continue
        wrong = [f"{analysis}: {what}" for analysis, what, stated in said if stated]
        control = Control(
            name=f"{ALL} on {model}: share of statements that came out",
            value=len(wrong) / len(said),
            must_be=Relation.AT_MOST,
            against=most,
        )
        found = f"{len(wrong)} of {len(said)}" + (f" ({'; '.join(wrong)})" if wrong else "")
        wanted = f"at most {most:.0%} of the statements"
        yield Gate("T4 statements", model, ALL, wanted, found, control)
