"""The explorer as one HTML file that plays without a server: from disk, any static host, or inside MLflow.

Everything is in it, under one Content-Security-Policy: no request is made, nothing is evaluated.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dtx.app.asked import Explorer
from dtx.app.file.bundle import APP, alone, csp_hash, data_url, import_map
from dtx.app.file.contents import Contents, Wanted, contents
from dtx.app.panels import Panel
from dtx.app.scene import Scene

PAGE, ENGINE, WORKER = "page/page.js", "file/engine.js", "file/worker.js"
_STYLE = re.compile(r'<link\b[^>]*\brel="stylesheet"[^>]*\bhref="([^"]+)"[^>]*>')
_SCRIPT = re.compile(r'<script\b[^>]*\bsrc="main\.js"[^>]*></script>')
_BEGIN = """import {{start}} from "{page}";
import {{File}} from "{engine}";
const given = (id) => document.getElementById(id).textContent;
const engine = new File({{...JSON.parse(given("dtx-scripts")), base64: given("dtx-contents")}});
start(engine);
"""


@dataclass(frozen=True)
class OneFile:
    """A file and what is in it.

    Attributes:
        text: The HTML. contents: What it carries.
    """

    text: str
    contents: Contents

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.text.encode())


def one_file(explorer: Explorer, wanted: Wanted) -> OneFile:
    """Make the file.

    Args:
        explorer: Has the models and panels.
        wanted: What it is to carry.

    Raises:
        UserError: A model or world cannot be carried; says what to do instead.
    """
    carried = contents(explorer, wanted)
    return OneFile(assembled(explorer.panels, carried.frame), carried)


def of_scene(explorer: Explorer, scene: Scene) -> OneFile:
    """A scene as a file: its models, every layout, the declared edits and the scene's own.

    Panels that are open and that only Python computes are there with their numbers of this scene.

    Raises:
        UserError: A model or world cannot be carried; says what to do instead.
    """
    asked = explorer.understood(scene.json())
    chosen = [p.name for p in asked.scene.panels or () if p.name in explorer.panels]
    wanted = Wanted(
        asked.scene,
        edits=list(asked.played.place.declared.edits.values()),
        frozen=[name for name in chosen if not plays(explorer.panels[name])],
    )
    return one_file(explorer, wanted)


def plays(panel: Panel) -> bool:
    """Whether the page's engine computes a panel by itself."""
    return "export const compute" in panel.script.read_text(encoding="utf-8")


def assembled(panels: Mapping[str, Panel], frame: bytes) -> str:
    """The HTML: ``index.html`` with its styles and scripts in it.

    Args:
        panels: All that the page knows, by name.
        frame: What the file carries, see :class:`Contents`.
    """
    page = APP / "page"
    imports = _script_text({"imports": import_map([PAGE, ENGINE])})
    begin = _BEGIN.format(page=PAGE, engine=ENGINE)
    scripts = {
        "worker": alone(WORKER),
        "panels": {
            name: data_url(panel.script.read_text(encoding="utf-8"))
            for name, panel in panels.items()
        },
    }
    packed = gzip.compress(frame, compresslevel=6, mtime=0)
    styles: list[str] = []

    def inside(match: re.Match[str]) -> str:
        styles.append((page / match[1]).read_text(encoding="utf-8"))
        return f"<style>{styles[-1]}</style>"

    text = _STYLE.sub(inside, (page / "index.html").read_text(encoding="utf-8"))
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {csp_hash(imports)} {csp_hash(begin)} data: 'wasm-unsafe-eval'",
            f"style-src {' '.join(map(csp_hash, styles)) or chr(39) + 'none' + chr(39)}",
            "img-src data: blob:",
            "worker-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    head = f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">'
    body = "\n".join(
        [
            f'<script type="importmap">{imports}</script>',
            f'<script type="text/plain" id="dtx-scripts">{_script_text(scripts)}</script>',
            f'<script type="text/plain" id="dtx-contents">{base64.b64encode(packed).decode()}</script>',
            f'<script type="module">{begin}</script>',
        ]
    )
    text = re.sub(r"(<head\b[^>]*>)", lambda m: m[1] + "\n" + head, text, count=1)
    return _SCRIPT.sub(lambda _: body, text)


def _script_text(value: object) -> str:
    """JSON that can stand in a script element."""
    return json.dumps(value, ensure_ascii=True).replace("<", "\\u003c")
