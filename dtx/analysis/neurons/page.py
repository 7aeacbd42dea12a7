"""One page of dashboards, a section a neuron; pictures are in the file, once each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from dtx.analysis.core.page import Heading, ResultPage
from dtx.analysis.core.result import Result
from dtx.analysis.neurons.plots import actions_of, names_of
from dtx.analysis.neurons.spec import RANDOM, TRAINED, UNTRAINED
from dtx.analysis.neurons.worlds import NO_WORLD
from dtx.dt.names import renamed
from dtx.pages.pictures import png
from dtx.pairs.runs import view_picture

BINS = 30
_SETS = {
    TRAINED: "states of the strongest activation",
    RANDOM: "random states",
    UNTRAINED: "states of the strongest activation of the same neuron, untrained",
}
_ALL_BARS = 340
"""Width of a chart."""


class NeuronsPage(ResultPage):
    """A page (:class:`dtx.report.Page`) with a section a neuron.

    Args:
        result: Of the analysis. heading: What stands at the top.
    """

    template: ClassVar[str] = "analysis/neurons/page.html"

    def __init__(self, result: Result, heading: Heading):
        super().__init__(result, heading)
        self.neurons, self.facts, self.states = (
            result.tables[name] for name in ("neurons", "facts", "states")
        )
        self.names = names_of(self.neurons)
        self.pictures: list[str] = []
        self._known: dict[tuple[str, int], int] = {}

    def values(self) -> Mapping[str, Any]:
        """The sections, and the pictures that they name by number."""
        self.pictures, self._known = [], {}
        neurons = [self._neuron(name) for name in self.names]
        return {"neurons": neurons, "numbers": self.result.metrics, "images": self.pictures}

    def _neuron(self, name: str) -> dict[str, Any]:
        table = self.neurons.set_index(["model", "name"])
        own = table.loc[TRAINED, name]
        rows = self.states[self.states["name"] == name]
        actions = {action: float(own[action]) for action in actions_of(self.neurons)}
        return {
            "name": renamed(name),
            "own": own,
            "untrained": table.loc[UNTRAINED, name],
            "histograms": self._histograms(name),
            "actions": _bars(actions, 70),
            "means": _bars(self._means(name, own.fact), 150),
            "sets": [
                (title, [self._state(row) for _, row in rows[rows["set"] == key].iterrows()])
                for key, title in _SETS.items()
            ],
        }

    # --- states ---

    def _state(self, row: pd.Series) -> dict[str, Any]:
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
        words.append(f"action before: {row['action before']}")
        return {
            "view": view,
            "beside": beside,
            "shows": "first view" if world == NO_WORLD else "world",
            "activation": row.activation,
            "words": "; ".join(words),
        }

    def _picture(self, array: str, place: int) -> int:
        """Number of the picture of an entry of ``views`` or ``worlds``; each is made once."""
        key = (array, place)
        if key not in self._known:
            image = self.result.arrays[array][place]
            data = png(view_picture(image) if array == "views" else image)
            if data not in self.pictures:
                self.pictures.append(data)
            self._known[key] = self.pictures.index(data)
        return self._known[key]

    # --- charts ---

    def _histograms(self, name: str) -> list[dict[str, Any]]:
        i = self.names.index(name)
        drawn = []
        for model in (TRAINED, UNTRAINED):
            value = self.result.arrays[f"activations_{model}"][:, i]
            low, high = float(value.min()), float(value.max())
            counts, _ = np.histogram(value, bins=BINS, range=(low, high if high > low else low + 1))
            size = np.sqrt(counts / counts.max())  # rare strong states would not be seen otherwise
            drawn.append({"model": model, "low": low, "high": high, "sizes": size.tolist()})
        return drawn

    def _means(self, name: str, fact: str) -> dict[str, float]:
        facts = self.facts[(self.facts["name"] == name) & (self.facts.fact == fact)]
        own = facts[facts.model == TRAINED].set_index("value")
        return {f"{word} (n={row.states})": float(row["mean"]) for word, row in own.iterrows()}


def _bars(values: Mapping[str, float], left: int) -> list[dict[str, Any]]:
    """Horizontal bars from 0: where each begins and its length in the chart's units.

    Args:
        values: By label. left: Width of the labels.
    """
    most = max((abs(v) for v in values.values()), default=0) or 1.0
    ends = [0.0, *values.values()]  # a neuron that never fires has no facts, so no values
    low, high = min(ends) / most, max(ends) / most
    room = _ALL_BARS - left - 80  # a number's width at both ends
    unit = room / max(high - low, 1e-9)
    zero = left + 40 - low * unit
    bars = []
    for word, value in values.items():
        length = value / most * unit
        bars.append(
            {
                "label": word,
                "label_x": left - 4,
                "x": zero + min(length, 0),
                "width": max(abs(length), 0.5),
                "end": zero + length + (-3 if value < 0 else 3),
                "value": value,
            }
        )
    return bars
