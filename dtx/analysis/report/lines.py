"""The lines at the top of a report: a question each, answered by the result of one analysis.

A line is *established*, *not established* (a check or a control failed, and the answer says which), or *not
asked* (no analysis that was chosen answers it).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.listing import built_in
from dtx.analysis.core.result import Result, Verdict
from dtx.stage import Stage

ESTABLISHED, NOT_ESTABLISHED, NOT_ASKED = "established", "not established", "not asked"
HYPOTHESES = "What became of each hypothesis?"
INSTRUMENTS = "Do the exact checks of all analyses hold?"


@dataclass(frozen=True)
class Line:
    """A line.

    Attributes:
        question: What is asked.
        answer: The finding, after the reasons if it is not established; or which analysis would answer it.
        status: established, not established or not asked.
        source: Labels of the artefacts that it comes from.
    """

    question: str
    answer: str
    status: str
    source: str


def results_of(analyses: Mapping[str, Stage]) -> dict[str, Result]:
    """The results of those that are analyses, by name; a user's own stage may be none."""
    return {name: a.result() for name, a in analyses.items() if isinstance(a, Analysis)}


def lines(analyses: Mapping[str, Stage], results: Mapping[str, Result]) -> list[Line]:
    """Hypotheses, one line an analysis, the checks of all, then what was not asked."""
    summary = []
    for name, result in results.items():
        stage = analyses[name]
        assert isinstance(stage, Analysis)
        status = ESTABLISHED if result.established else NOT_ESTABLISHED
        summary.append(Line(stage.question, result.summary, status, stage.label))
    labels = " ".join(analyses[name].label for name in results)
    if any(result.claims for result in results.values()):
        summary.insert(0, _hypotheses(results, labels))
    if results:
        summary.append(_checks(results, labels))
    given = {stage.name for stage in analyses.values()}
    summary += [
        Line(analysis.question, f"not run: add {name} to `analysis=`", NOT_ASKED, "")
        for name, analysis in built_in().items()
        if name not in given
    ]
    return summary


def counts(summary: list[Line], results: Mapping[str, Result]) -> dict[str, float | None]:
    """``report/*``: how many lines and claims came out how."""
    claims = [claim for result in results.values() for claim in result.claims]
    status = [line.status for line in summary]
    return {
        "report/analyses": float(len(results)),
        "report/asked": float(len(summary) - status.count(NOT_ASKED)),
        "report/established": float(status.count(ESTABLISHED)),
        "report/not_established": float(status.count(NOT_ESTABLISHED)),
        "report/not_asked": float(status.count(NOT_ASKED)),
        "report/claims": float(len(claims)),
        **{
            f"report/{verdict.name.lower()}": float(sum(c.verdict is verdict for c in claims))
            for verdict in Verdict
            if verdict is not Verdict.NOT_ESTABLISHED
        },
    }


def _hypotheses(results: Mapping[str, Result], labels: str) -> Line:
    """How many claims came out how, and which; established if any of them could be judged."""
    claims = [claim for result in results.values() for claim in result.claims]
    parts = []
    for verdict in Verdict:
        texts = [claim.text for claim in claims if claim.verdict is verdict]
        if texts:
            parts.append(f"{len(texts)} {verdict.value}: {', '.join(texts)}")
    judged = any(claim.verdict is not Verdict.NOT_ESTABLISHED for claim in claims)
    return Line(HYPOTHESES, "\n".join(parts), ESTABLISHED if judged else NOT_ESTABLISHED, labels)


def _checks(results: Mapping[str, Result], labels: str) -> Line:
    """Established if every check of every analysis holds, and every analysis has one."""
    checks = [(name, check) for name, result in results.items() for check in result.checks]
    failed = [
        f"{name}: {check.name}: "
        + ("not measured" if check.error is None else f"{check.error:.2g} > {check.tolerance:g}")
        for name, check in checks
        if not check.holds
    ]
    failed += [
        f"{name}: no check on record" for name, result in results.items() if not result.checks
    ]
    held = f"{sum(check.holds for _, check in checks)} of {len(checks)} hold"
    answer = "\n".join([held, *failed])
    return Line(INSTRUMENTS, answer, NOT_ESTABLISHED if failed else ESTABLISHED, labels)
