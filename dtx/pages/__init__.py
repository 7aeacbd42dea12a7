"""HTML pages: jinja2 templates with autoescape, one stylesheet, one copy of plotly's script for a store.

A template lies beside the code that fills it (``dtx/analysis/attention/page.html``); what pages share is
here: ``base.html``, ``parts.html`` (verdicts, tables, pictures), ``style.css`` and ``page.js``. A page is one
file that opens without a network. Interactive figures read plotly's script, 4.8 MB, from ``.pages/`` of the
store (:func:`share_script`); :func:`standalone` puts it into the copy that MLflow shows.
"""

from __future__ import annotations

import functools
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtx.text import discreet

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = ".pages"
"""Folder of a store with what its pages share."""
_SCRIPT = re.compile(r'<script src="\.\./\.\./\.pages/(plotly-[\w.]+\.min\.js)"></script>')
_BREAK = re.compile(r"<br\s*/?>")
_TAG = re.compile(r"<[^>]*>")
_TRACES_WITH_CELLS = ("heatmap", "contour", "histogram2d")
_WIDE, _NARROW = 640, 300
"""Least width of an interactive figure in CSS pixels: of one with cells or panels, of another. The page
scrolls it in its own box where the screen is narrower."""


def render(template: str, **values: Any) -> str:
    """The text of a page.

    Args:
        template: Path in the package ``dtx``: ``analysis/attention/page.html``.
        **values: For the template. Text is escaped; ``| tojson`` writes a value for a script.
    """
    return _environment().get_template(template).render(**values)


def write(path: Path, template: str, **values: Any) -> None:
    """Write a page; no secret of a URL is written."""
    path.write_text(discreet(render(template, **values)), encoding="utf-8")


def is_plotly(page: Any) -> bool:
    """Whether a page is a plotly figure."""
    from plotly.basedatatypes import BaseFigure

    return isinstance(page, BaseFigure)


def plot(figure: Any, name: str) -> dict[str, Any]:
    """What the macro ``plot`` of ``parts.html`` draws.

    Args:
        figure: A plotly figure. Its title becomes text of the page, where it can wrap, and its template is
            replaced by the page's colours, light and dark.
        name: Of the figure; the id of its element.
    """
    drawn = json.loads(figure.to_json())
    layout = drawn.get("layout", {})
    layout.pop("template", None)
    title = (layout.pop("title", None) or {}).get("text") or ""
    cells = any(trace.get("type") in _TRACES_WITH_CELLS for trace in drawn["data"])
    panels = any(key.startswith("xaxis") and key != "xaxis" for key in layout)
    return {
        "name": name,
        "title": _TAG.sub("", _BREAK.sub("; ", title)),
        "script": f"plotly-{_version()}.min.js",
        "figure": {"data": drawn["data"], "layout": layout},
        "width": _WIDE if cells or panels else _NARROW,
        "height": int(layout.get("height") or 460),
    }


def read_script(artefact: Path) -> bool:
    """Whether a page of an artefact reads plotly's script from the store."""
    return any(_script_of(path) for path in (artefact / "figures").glob("*.html"))


def share_script(folder: Path) -> None:
    """Write plotly's script into a folder unless it is there.

    A page of another version of plotly says that its script is missing and shows its pictures and tables.

    Args:
        folder: :data:`FOLDER` of a store.
    """
    path = folder / f"plotly-{_version()}.min.js"
    if not path.exists():
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        partial.write_text(_script(), encoding="utf-8")
        partial.replace(path)


def standalone(path: Path) -> str | None:
    """The text of a page with plotly's script in it; None if the file reads none.

    MLflow shows a page alone, in a frame without an address, where it can read no other file.
    """
    name = _script_of(path) if path.suffix == ".html" else None
    if name is None:
        return None
    shared = path.parents[2] / FOLDER / name
    own = name == f"plotly-{_version()}.min.js" or not shared.is_file()
    script = _script() if own else shared.read_text("utf-8")
    return _SCRIPT.sub(lambda _: f"<script>{script}</script>", path.read_text("utf-8"), count=1)


def _script_of(path: Path) -> str | None:
    """Name of the shared script that a page reads."""
    found = _SCRIPT.search(path.read_text("utf-8", errors="replace"))
    return found[1] if found else None


def _script() -> str:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def _version() -> str:
    from plotly.offline import get_plotlyjs_version

    return get_plotlyjs_version()


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("dtx", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["words"] = lambda name: str(name).replace("_", " ")
    environment.filters["sentence"] = _sentence
    environment.filters["clauses"] = _clauses
    return environment


def _sentence(text: str) -> str:
    """A name as a heading: ``activation_patching`` as ``Activation patching``."""
    words = str(text).replace("_", " ")
    return words[:1].upper() + words[1:]


def _clauses(text: str) -> list[str]:
    """The parts of a sentence between its semicolons; those in brackets divide nothing."""
    depth, begin, found = 0, 0, []
    for place, letter in enumerate(text):
        depth += (letter in "([") - (letter in ")]")
        if letter == ";" and depth <= 0:
            found.append(text[begin:place].strip())
            begin = place + 1
    return [*found, text[begin:].strip()]
