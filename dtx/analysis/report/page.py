"""The report as one HTML file: no script, no network, readable on a telephone."""

from __future__ import annotations

import base64
import html
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dtx.analysis.report import ReportPage
from dtx.analysis.report.lines import Line, claims_of, refused
from dtx.report import read_metrics
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
    "not established": "bad",
    "not confirmed": "bad",
    "depends": "mixed",
    "not asked": "open",
}


class Page:
    """Writes itself like a plotly figure, so that :meth:`dtx.report.Report.page` takes it."""

    def __init__(self, stage: ReportPage, lines: list[Line]):
        self.stage, self.lines = stage, lines

    def write_html(self, path: Path, **_: Any) -> None:
        """Write the page with all pictures in it."""
        analyses = self.stage.analyses
        parts = [
            '<!doctype html><html lang="en"><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>dtx report</title><style>{_STYLE}</style>",
            "<h1>What the Decision Transformer has learnt</h1>",
            f'<p class="soft">{len(analyses)} analyses of one run. Each verdict is that of the analysis: it '
            "counts as established only if its exact check holds and its control stays below it.</p>",
            "<nav>",
            *(f'<a href="#{_text(name)}">{_text(name)}</a>' for name in analyses),
            '<a href="#inputs">inputs</a></nav><ol>',
            *(self._line(number, line) for number, line in enumerate(self.lines, 1)),
            "</ol>",
            *(part for name, stage in analyses.items() for part in _section(name, stage)),
            *_lineage(analyses),
            "</html>",
        ]
        path.write_text("\n".join(parts) + "\n")

    def _line(self, number: int, line: Line) -> str:
        said = "".join(f"<p>{_text(part)}</p>" for part in line.answer.split("\n"))
        return (
            f"<li><b>{number}</b><b>{_text(line.question)}</b>{_verdict(line.status)}"
            f'<div class="answer">{said}</div></li>'
        )


def _section(name: str, stage: Stage) -> Iterator[str]:
    """One analysis: what was asked, what came out, how sure, its figures."""
    yield f'<section id="{_text(name)}"><h2>{_text(name)}</h2>'
    yield f'<p class="soft">{_text(asked(stage))}</p>'
    claims = claims_of(stage)
    if claims and not refused(stage):
        yield "<table><thead><tr><th>claim</th><th>verdict</th><th>wanted</th><th>found</th></tr></thead>"
        for claim in claims:
            yield (
                f"<tr><td><b>{_text(claim.claim)}</b></td><td>{_verdict(claim.verdict)}</td>"
                f'<td data-is="wanted">{_text(claim.wanted)}</td>'
                f'<td data-is="found">{_text(claim.found)}</td></tr>'
            )
        yield "</table>"
    else:
        yield f"<p>{_text(stage.summary())}</p>"
    yield '<div class="figures">'
    for picture in sorted((stage.path / "figures").glob("*.png")):
        data = base64.b64encode(picture.read_bytes()).decode()
        yield (
            f'<figure><img loading="lazy" alt="{_text(name)}: {_text(picture.stem)}" '
            f'src="data:image/png;base64,{data}"></figure>'
        )
    yield "</div><dl>"
    for title, text in sureness(stage):
        yield f"<dt>{title}</dt><dd>{_text(text)}</dd>"
    yield "</dl></section>"


def asked(stage: Stage) -> str:
    """The question: the first line of the file that defines the analysis."""
    text = inspect.getdoc(sys.modules[type(stage).__module__]) or type(stage).__name__
    return text.split("\n\n")[0].replace("\n", " ")


def sureness(stage: Stage) -> Iterator[tuple[str, str]]:
    """What speaks for and against the numbers: controls, exact checks, distinct inputs, pages."""
    description = " ".join((inspect.getdoc(type(stage)) or "").replace("`", "").split())
    controls = re.findall(r"(Controls?: .*?|Exact checks?: .*?)(?=\.(?: [A-Z]|$))", description)
    for control in controls:
        title, _, text = control.partition(": ")
        yield title.lower(), text
    n = read_metrics(stage.path)
    for name, value in n.items():
        if name.endswith("identity_error"):
            yield "identity error", "missing" if value is None else f"{value:.2g}"
        if name.endswith("distinct_inputs") and value is not None:
            yield "distinct inputs", f"{value:,.0f}"
    pages = sorted(p.name for p in (stage.path / "figures").glob("*.html"))
    if pages:
        yield "to look through", ", ".join(f"{stage.label}/figures/{page}" for page in pages)
    yield "artefact", stage.label


def _lineage(analyses: dict[str, Stage]) -> Iterator[str]:
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
    word = status.split(":")[0]
    return f'<span class="verdict {_COLOURS.get(word, "open")}">{_text(word)}</span>'


def _text(text: str) -> str:
    return html.escape(text, quote=True)
