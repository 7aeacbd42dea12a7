"""One page of dashboards, a section a neuron; pictures are in the file, once each, and it opens offline."""

from __future__ import annotations

import base64
import html
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dtx.analysis.core.result import Result
from dtx.analysis.neurons.plots import actions_of, names_of
from dtx.analysis.neurons.spec import RANDOM, TRAINED, UNTRAINED
from dtx.analysis.neurons.worlds import NO_WORLD
from dtx.pairs.runs import view_picture

BINS = 30
_COLOURS = {TRAINED: "#3a6ea5", UNTRAINED: "#9aa3b2"}
_SETS = {
    TRAINED: "strongest states",
    RANDOM: "random states",
    UNTRAINED: "strongest states of the same neuron, untrained",
}
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Neurons</title><style>
*{box-sizing:border-box} body{font:14px/1.4 system-ui,sans-serif;color:#1b1f2a;margin:16px;max-width:1240px}
h1{font-size:19px;margin:0 0 4px} h2{font-size:16px;margin:0} h3{font-size:13px;margin:12px 0 4px}
p{margin:0 0 10px;color:#525a6b;max-width:760px}
nav{display:flex;flex-wrap:wrap;gap:4px 10px;margin-bottom:12px}
a{color:#2a5a94} section{border-top:1px solid #d5d9e2;padding:12px 0 16px}
.charts{display:flex;flex-wrap:wrap;gap:8px 28px} .charts>div{flex:0 1 340px;min-width:0}
svg{display:block;width:100%;height:auto} svg text{font:11px system-ui,sans-serif;fill:#1b1f2a}
.states{display:flex;flex-wrap:wrap;gap:8px} figure{margin:0;width:148px}
.pictures{display:flex;gap:4px} .pictures img{width:72px;height:72px;background:#eef0f4}
figcaption{font-size:11px;line-height:1.3;color:#525a6b;margin-top:2px} figcaption b{color:#1b1f2a}
@media(max-width:480px){body{margin:10px} .states{gap:8px 6px}}
</style><h1>What neurons answer to</h1><p>__NUMBERS__</p><p>__HOW__</p><nav>__LINKS__</nav>__SECTIONS__
<script>const P=__PICTURES__;
document.querySelectorAll('img').forEach(e=>{e.src='data:image/png;base64,'+P[e.dataset.p]});</script></html>
"""


class NeuronsPage:
    """A page (:class:`dtx.report.Page`) with a section a neuron.

    Args:
        result: Of the analysis.
        label: Of the model.
    """

    def __init__(self, result: Result, label: str):
        self.result, self.label = result, label
        self.neurons, self.facts, self.states = (
            result.tables[name] for name in ("neurons", "facts", "states")
        )
        self.names = names_of(self.neurons)
        self.pictures: list[str] = []
        self._known: dict[tuple[str, int], int] = {}

    def write_html(self, path: Path, **_: Any) -> None:
        """Write one file."""
        n = self.result.metrics
        numbers = (
            f"{self.label}: {len(self.names)} neurons, {n['distinct_inputs']:.0f} distinct states of the "
            "demonstrations. Selectivity: the share of a neuron's variance that one fact about the state "
            f"explains; {n['selectivity']:.2f} on average, {n['selectivity_untrained']:.2f} in those that "
            "the same choice shows of untrained models."
        )
        how = (
            "Each state is drawn as the agent sees it (left) and as the world, or where that cannot be "
            "known the first view of the window (right). Bold: the neuron's activation."
        )
        links = "".join(f'<a href="#{name}">{name}</a>' for name in self.names)
        text = _PAGE.replace("__NUMBERS__", html.escape(numbers)).replace(
            "__HOW__", html.escape(how)
        )
        text = text.replace("__LINKS__", links)
        text = text.replace("__SECTIONS__", "".join(self._section(name) for name in self.names))
        path.write_text(text.replace("__PICTURES__", json.dumps(self.pictures)))

    def _section(self, name: str) -> str:
        table = self.neurons.set_index(["model", "name"])
        own, fresh = table.loc[TRAINED, name], table.loc[UNTRAINED, name]
        best = (
            f"Best decoded: <b>{html.escape(own.fact)}</b>, selectivity {own.selectivity:.2f}, most apart at "
            f"<b>{html.escape(own.peak)}</b>. Untrained: {html.escape(fresh.fact)}, {fresh.selectivity:.2f}."
        )
        charts = [
            ("activation over states", self._histogram(name)),
            ("logits for each unit of activation", self._actions(own)),
            (f"mean activation by {own.fact}", self._means(name, own.fact)),
        ]
        drawn = "".join(f"<div><h3>{html.escape(t)}</h3>{svg}</div>" for t, svg in charts)
        rows = self.states[self.states["name"] == name]
        sets = "".join(
            f'<h3>{title}</h3><div class="states">{self._states(rows[rows["set"] == key])}</div>'
            for key, title in _SETS.items()
        )
        return (
            f'<section id="{name}"><h2>{name}</h2><p>{best}</p><div class="charts">{drawn}</div>'
            f"{sets}</section>"
        )

    # --- states ---

    def _states(self, rows: pd.DataFrame) -> str:
        return "".join(self._state(row) for _, row in rows.iterrows())

    def _state(self, row: pd.Series) -> str:
        world = int(row["world"])
        view = self._picture("views", int(row["view"]))
        beside = (
            self._picture("views", int(row["first_view"]))
            if world == NO_WORLD
            else self._picture("worlds", world)
        )
        words = [f"RTG {row.reward_to_go:.2f}, step {row.step + 1}"]
        if "instruction" in row:
            words.append(f"{row.instruction}, target {row['target side']}")
        words.append(f"before: {row['action before']}")
        return (
            f'<figure><div class="pictures"><img data-p="{view}" alt="view"><img data-p="{beside}" '
            f'alt="world"></div><figcaption><b>{row.activation:.2f}</b> {html.escape("; ".join(words))}'
            "</figcaption></figure>"
        )

    def _picture(self, array: str, place: int) -> int:
        """Number of the picture of an entry of ``views`` or ``worlds``; each is made once."""
        key = (array, place)
        if key not in self._known:
            image = self.result.arrays[array][place]
            data = _png(view_picture(image) if array == "views" else image)
            if data not in self.pictures:
                self.pictures.append(data)
            self._known[key] = self.pictures.index(data)
        return self._known[key]

    # --- charts ---

    def _histogram(self, name: str) -> str:
        i = self.names.index(name)
        parts = []
        for place, model in enumerate((TRAINED, UNTRAINED)):
            value = self.result.arrays[f"activations_{model}"][:, i]
            low, high = float(value.min()), float(value.max())
            counts, _ = np.histogram(value, bins=BINS, range=(low, high if high > low else low + 1))
            size = np.sqrt(counts / counts.max())  # rare strong states would not be seen otherwise
            top = 70 * place
            parts.append(f'<text x="0" y="{top + 11}">{model}</text>')
            for j, height in enumerate(size):
                parts.append(
                    f'<rect x="{60 + 8 * j}" y="{top + 48 - 44 * height:.1f}" width="7" '
                    f'height="{44 * height:.1f}" fill="{_COLOURS[model]}"/>'
                )
            parts.append(f'<text x="60" y="{top + 61}">{low:.2f}</text>')
            parts.append(f'<text x="300" y="{top + 61}" text-anchor="end">{high:.2f}</text>')
            parts.append(
                f'<text x="180" y="{top + 61}" text-anchor="middle">(root of the count)</text>'
            )
        return f'<svg viewBox="0 0 340 136">{"".join(parts)}</svg>'

    def _actions(self, own: pd.Series) -> str:
        values = {action: float(own[action]) for action in actions_of(self.neurons)}
        return _bars(values, None)

    def _means(self, name: str, fact: str) -> str:
        facts = self.facts[(self.facts["name"] == name) & (self.facts.fact == fact)]
        own = facts[facts.model == TRAINED].set_index("value")
        values = {f"{word} ({row.states})": float(row["mean"]) for word, row in own.iterrows()}
        return _bars(values, 150)


def _bars(values: dict[str, float], label_width: int | None) -> str:
    """Horizontal bars from 0, each with its number."""
    left = label_width or 70
    most = max((abs(v) for v in values.values()), default=0) or 1.0
    ends = [0.0, *values.values()]  # a neuron that never fires has no facts, so no values
    low, high = min(ends) / most, max(ends) / most
    room = 340 - left - 80  # a number's width at both ends
    unit = room / max(high - low, 1e-9)
    zero = left + 40 - low * unit
    parts = []
    for j, (word, value) in enumerate(values.items()):
        y, length = 17 * j, value / most * unit
        x = zero + min(length, 0)
        anchor, at = ("end", zero + length - 3) if value < 0 else ("start", zero + length + 3)
        colour = "#d1495b" if value < 0 else "#3a6ea5"
        parts.append(
            f'<text x="{left - 4}" y="{y + 12}" text-anchor="end">{html.escape(word)}</text>'
        )
        parts.append(
            f'<rect x="{x:.1f}" y="{y + 3}" width="{max(abs(length), 0.5):.1f}" height="11" fill="{colour}"/>'
        )
        parts.append(f'<text x="{at:.1f}" y="{y + 12}" text-anchor="{anchor}">{value:.2f}</text>')
    return f'<svg viewBox="0 0 340 {17 * len(values) + 4}">{"".join(parts)}</svg>'


def _png(image: np.ndarray) -> str:
    """A picture with few colours as a small PNG, base64."""
    from PIL import Image

    buffer = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(image)).quantize(32)
    picture.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
