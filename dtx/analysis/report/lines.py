"""The lines at the top of a report: a question each, answered by the result of one analysis.

A line is *established* if the result stands and says something: it has no claims, or one of them is stated. A
result whose claims are all refuted, undecided or without an object has that as its status. A line is *not
established* where a check or a control failed, and the answer says which; *not asked* where no analysis that
was chosen answers it. Instruments and data stand apart: they are as they are whatever the model has learnt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.listing import built_in
from dtx.analysis.core.result import Claim, Result, Verdict
from dtx.stage import Stage

ESTABLISHED, NOT_ASKED = "established", "not asked"
HOLDS, FAILED = "holds", "failed"
"""Statuses of the lines on instruments and data."""
INSTRUMENTS = "Do the exact checks of all analyses hold?"


@dataclass(frozen=True)
class Line:
    """A line.

    Attributes:
        question: What is asked.
        answer: The finding, after the reasons if it is not established; or which analysis would answer it.
        status: What became of it, see above.
        source: Labels of the artefacts that it comes from.
        analysis: Its name in the config, or the name to add there; empty for a line on all of them.
        claims: The answers one by one, each with its verdict; none where the finding is the answer.
    """

    question: str
    answer: str
    status: str
    source: str
    analysis: str = ""
    claims: tuple[Claim, ...] = field(default=())


def results_of(analyses: Mapping[str, Stage]) -> dict[str, Result]:
    """The results of those that are analyses, by name; a user's own stage may be none."""
    return {name: a.result() for name, a in analyses.items() if isinstance(a, Analysis)}


def lines(analyses: Mapping[str, Stage], results: Mapping[str, Result]) -> list[Line]:
    """One line an analysis of a model, then instruments and data, then what was not asked."""
    summary, apart = [], []
    for name, result in results.items():
        stage = analyses[name]
        assert isinstance(stage, Analysis)
        if result.about.needs_control:
            shown = tuple(result.claims) if result.established else ()
            answer = result.finding if shown else result.summary
            summary.append(Line(stage.question, answer, status(result), stage.label, name, shown))
        else:
            state = HOLDS if result.established else FAILED
            apart.append(Line(stage.question, result.summary, state, stage.label, name))
    if results:
        apart.append(_checks(results, " ".join(analyses[name].label for name in results)))
    given = {stage.name for stage in analyses.values()}
    not_asked = [
        Line(analysis.question, f"not run: add {name} to `analysis=`", NOT_ASKED, "", name)
        for name, analysis in built_in().items()
        if name not in given
    ]
    return [*summary, *apart, *not_asked]


def status(result: Result) -> str:
    """What became of a question about a model."""
    if not result.established:
        return Verdict.NOT_ESTABLISHED.value
    verdicts = {claim.verdict for claim in result.claims}
    if not verdicts or any(verdict.states for verdict in verdicts):
        return ESTABLISHED
    rest = (Verdict.NOT_DECIDED, Verdict.NOT_CONFIRMED, Verdict.NOT_APPLICABLE)
    return next(verdict.value for verdict in rest if verdict in verdicts)


def counts(summary: list[Line], results: Mapping[str, Result]) -> dict[str, float | None]:
    """``report/*``: how many lines about the model, checks of instruments and claims came out how."""
    claims = [claim for result in results.values() for claim in result.claims]
    of_lines = [line.status for line in summary]
    apart = of_lines.count(HOLDS) + of_lines.count(FAILED)
    asked = len(summary) - of_lines.count(NOT_ASKED) - apart
    return {
        "report/analyses": float(len(results)),
        "report/asked": float(asked),
        "report/established": float(of_lines.count(ESTABLISHED)),
        "report/not_established": float(asked - of_lines.count(ESTABLISHED)),
        "report/not_asked": float(of_lines.count(NOT_ASKED)),
        "report/instruments_failed": float(of_lines.count(FAILED)),
        "report/claims": float(len(claims)),
        **{
            f"report/{verdict.name.lower()}": float(sum(c.verdict is verdict for c in claims))
            for verdict in Verdict
            if verdict is not Verdict.NOT_ESTABLISHED
        },
    }


def _checks(results: Mapping[str, Result], labels: str) -> Line:
    """It holds if every check of every analysis holds, and every analysis has one."""
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
    return Line(INSTRUMENTS, answer, FAILED if failed else HOLDS, labels)
