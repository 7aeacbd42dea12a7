"""How a notebook shows handles: numbers, verdicts, figures, and where the files are."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

if TYPE_CHECKING:
    from dtx.analysis.core.result import Result

_SHOWN = 12  # numbers
_PAGES = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
# No colour but the notebook's own: it may be light or dark.
_HANDLE = _PAGES.from_string("""\
<div><b>{{ label }}</b>
{% if result %}
<p>{{ "established" if result.established else "not established: " ~ result.reasons() | join("; ") }}</p>
<p>{{ result.finding }}</p>
{% if result.claims %}
<table><thead><tr><th>claim</th><th>verdict</th><th>evidence</th></tr></thead><tbody>
{% for claim in result.claims %}
<tr><td>{{ claim.text }}</td><td>{{ claim.verdict.value }}</td><td>{{ claim.evidence }}</td></tr>
{% endfor %}
</tbody></table>
{% endif %}
{% endif %}
{% if numbers %}
<table><thead><tr><th>metric</th><th>value</th></tr></thead><tbody>
{% for name, value in numbers %}
<tr><td>{{ name }}</td><td>{{ "missing" if value is none else "%.4g" | format(value) }}</td></tr>
{% endfor %}
</tbody></table>
{% if more %}<p>and {{ more }} more in .headline</p>{% endif %}
{% endif %}
{% for name, data in figures %}
<img src="data:image/png;base64,{{ data }}" alt="{{ name }}" style="max-width:100%;background:white">
{% endfor %}
<p><code>{{ folder }}</code></p></div>""")
_RUN = _PAGES.from_string("""\
<table><thead><tr><th>stage</th><th>status</th><th>result</th></tr></thead><tbody>
{% for stage, status, result in rows %}
<tr><td>{{ stage }}</td><td>{{ status }}</td><td>{{ result }}</td></tr>
{% endfor %}
</tbody></table>""")


def of_artefact(
    label: str,
    folder: Path,
    result: Result | None,
    numbers: Mapping[str, float | None],
    figures: Mapping[str, Path],
) -> str:
    """Finding and verdicts of an analysis, the first numbers of any stage, and its figures (PNG)."""
    pictures = [
        (name, base64.b64encode(path.read_bytes()).decode())
        for name, path in figures.items()
        if path.suffix == ".png"
    ]
    return _HANDLE.render(
        label=label,
        folder=folder,
        result=result,
        numbers=list(numbers.items())[:_SHOWN],
        more=max(0, len(numbers) - _SHOWN),
        figures=pictures,
    )


def of_run(rows: Sequence[tuple[str, str, str]]) -> str:
    """A row for each stage: its role, its status, what came out."""
    return _RUN.render(rows=rows)
