"""The report as one HTML file: no script, no network, readable on a telephone."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.result import Result
from dtx.analysis.report.lines import NOT_ASKED, Line
from dtx.stage import Stage

_STYLE = """
:root{--ink:#1b1f2a;--soft:#525a6b;--line:#dfe3ea;--good:#1c7a45;--bad:#b3372f;--open:#6b7280;--mixed:#8a5a00}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);margin:0 auto;padding:20px;
 max-width:1080px;overflow-wrap:anywhere}
h1{font-size:24px;margin:0}
h2{font-size:18px;margin:0 0 4px}
section{border-top:1px solid var(--line);margin-top:28px;padding-top:20px}
p{margin:4px 0 10px}
.soft,figcaption,.numbers{color:var(--soft);font-size:13px}
ol{list-style:none;padding:0;margin:14px 0}
ol>li{display:grid;grid-template-columns:26px 1fr 112px;gap:2px 10px;padding:10px 0;border-top:1px
 solid var(--line)}
ol>li>b:first-child{color:var(--soft)}
.answer{grid-column:2/-1}
.answer p{margin:0}
.verdict{font-size:12px;font-weight:600;white-space:nowrap;justify-self:end;align-self:start}
.good{color:var(--good)}
.bad{color:var(--bad)}
.open{color:var(--open)}
.mixed{color:var(--mixed)}
table{border-collapse:collapse;width:100%;font-size:13px;margin:8px 0}
th,td{text-align:left;vertical-align:top; padding:5px 10px 5px 0;border-top:1px solid var(--line)}
th{font-weight:600;color:var(--soft)}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(640px,100%),1fr));gap:16px;margin:12px
 0}
figure{margin:0}
img{max-width:min(100%,820px);height:auto;border:1px solid var(--line)}
nav{margin:8px 0 0;font-size:13px}
nav a{margin-right:12px;color:inherit}
code{font-size:12px}
dl{display:grid;grid-template-columns:max-content 1fr; gap:2px 14px;font-size:13px;margin:8px 0}
dt{color:var(--soft)}
dd{margin:0}
@media(max-width:640px){body{padding:14px} ol>li{grid-template-columns:22px 1fr}
 .verdict{grid-column:2;justify-self:start} thead{display:none} tr{display:block;border-top:1px
 solid var(--line);padding:6px 0} td{display:block;border:0;padding:1px 0}
 td[data-is]::before{content:attr(data-is) ": ";color:var(--soft)}}
"""
_COLOURS = {
    "established": "good",
    "confirmed": "good",
    "holds": "good",
    "failed": "bad",
    "not established": "bad",
    "not confirmed": "bad",
    "depends": "mixed",
    "not decided": "mixed",
    "not applicable": "open",
    "not asked": "open",
}


class ReportHtml:
    """The page; it writes itself like a plotly figure, so that :meth:`dtx.report.Report.page` takes it.

    Args:
        analyses: The stages by name.
        results: Of those that are analyses.
        lines: What stands at the top.
    """

    def __init__(
        self, analyses: Mapping[str, Stage], results: Mapping[str, Result], lines: list[Line]
    ):
        self.analyses, self.results, self.lines = analyses, results, lines

    def write_html(self, path: Path, **_: Any) -> None:
        """Write the page with all pictures in it."""
        analyses = self.analyses
        asked = [line for line in self.lines if line.status != NOT_ASKED]
        parts = [
            '<!doctype html><html lang="en"><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>dtx report</title><style>{_STYLE}</style>",
            "<h1>What the Decision Transformer has learnt</h1>",
            f'<p class="soft">{len(analyses)} analyses of one run. A line is established if every exact '
            "check and every control of its analysis holds.</p>",
            "<nav>",
            *(f'<a href="#{_text(name)}">{_text(name)}</a>' for name in analyses),
            '<a href="#inputs">inputs</a></nav><ol>',
            *(_line(number, line) for number, line in enumerate(asked, 1)),
            "</ol>",
            *_not_asked([line for line in self.lines if line.status == NOT_ASKED]),
            *(
                part
                for name, stage in analyses.items()
                for part in _section(name, stage, self.results.get(name))
            ),
            *_lineage(analyses),
            "</html>",
        ]
        path.write_text("\n".join(parts) + "\n")


def _line(number: int, line: Line) -> str:
    paragraphs = "".join(f"<p>{_text(part)}</p>" for part in line.answer.split("\n"))
    claims = "".join(
        f"<p>{_verdict(claim.verdict.value)} {_text(claim.text)}: {_text(claim.evidence)}</p>"
        for claim in line.claims
    )
    return (
        f"<li><b>{number}</b><b>{_text(line.question)}</b>{_verdict(line.status)}"
        f'<div class="answer">{claims or paragraphs}</div></li>'
    )


def _not_asked(lines: list[Line]) -> Iterator[str]:
    """Questions that other analyses would answer."""
    if lines:
        yield f'<details class="soft"><summary>{len(lines)} questions were not asked</summary><ul>'
        yield from (f"<li>{_text(line.question)} ({_text(line.answer)})</li>" for line in lines)
        yield "</ul></details>"


def _section(name: str, stage: Stage, result: Result | None) -> Iterator[str]:
    """One analysis: what was asked, what came out, how sure, its figures."""
    yield f'<section id="{_text(name)}"><h2>{_text(name)}</h2>'
    if isinstance(stage, Analysis):
        yield f'<p class="soft">{_text(stage.question)}</p>'
    if result is not None and result.claims and result.established:
        heads = "".join(
            f"<th>{word}</th>" for word in ("claim", "verdict", "criterion", "evidence")
        )
        yield f"<table><thead><tr>{heads}</tr></thead>"
        for claim in result.claims:
            yield (
                f"<tr><td><b>{_text(claim.text)}</b></td><td>{_verdict(claim.verdict.value)}</td>"
                f'<td data-is="criterion">{_text(claim.criterion)}</td>'
                f'<td data-is="evidence">{_text(claim.evidence)}</td></tr>'
            )
        yield "</table>"
    else:
        yield f"<p>{_text(stage.summary() if result is None else result.summary)}</p>"
    yield '<div class="figures">'
    for picture in sorted((stage.path / "figures").glob("*.png")):
        data = base64.b64encode(picture.read_bytes()).decode()
        yield (
            f'<figure><img loading="lazy" alt="{_text(name)}: {_text(picture.stem)}" '
            f'src="data:image/png;base64,{data}"></figure>'
        )
    yield "</div><dl>"
    for title, text in _evidence(stage, result):
        yield f"<dt>{title}</dt><dd>{_text(text)}</dd>"
    yield "</dl></section>"


def _evidence(stage: Stage, result: Result | None) -> Iterator[tuple[str, str]]:
    """What speaks for and against the numbers: exact checks, controls, distinct inputs, pages."""
    for check in result.checks if result else ():
        error = "not measured" if check.error is None else f"{check.error:.2g}"
        state = "holds" if check.holds else "FAILED"
        yield "exact check", f"{check.name}: {error} (at most {check.tolerance:g}): {state}"
    for control in result.controls if result else ():
        yield "control", f"{control}: {'holds' if control.holds else 'FAILED'}"
    if result and result.distinct_inputs is not None:
        yield "distinct inputs", f"{result.distinct_inputs:,}"
    pages = sorted(p.name for p in (stage.path / "figures").glob("*.html"))
    if pages:
        yield "interactive", ", ".join(f"{stage.label}/figures/{page}" for page in pages)
    yield "artefact", stage.label


def _lineage(analyses: Mapping[str, Stage]) -> Iterator[str]:
    """All stages that the analyses stand on, with their settings."""
    yield '<section id="inputs"><h2>inputs</h2><p class="soft">What the analyses stand on, nearest first.</p>'
    yield "<table><thead><tr><th>artefact</th><th>what came out</th></tr></thead>"
    waiting = list(analyses.values())
    seen = {stage.label for stage in waiting}
    while waiting:
        for stage in waiting.pop(0).inputs().values():
            if stage.label not in seen:
                seen.add(stage.label)
                waiting.append(stage)
                yield f"<tr><td><code>{_text(stage.label)}</code></td><td>{_text(stage.summary())}</td></tr>"
    yield "</table></section>"


def _verdict(status: str) -> str:
    return f'<span class="verdict {_COLOURS.get(status, "open")}">{_text(status)}</span>'


def _text(text: str) -> str:
    return html.escape(text, quote=True)
