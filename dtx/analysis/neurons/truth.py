"""Which neurons of known models are shown, and where each fires."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from dtx.analysis.core.answers import Subject, rows
from dtx.dt.circuit import Neuron


def answers(subject: Subject) -> Iterator[pd.DataFrame]:
    """A4: which neurons are shown, and whether each one is said to fire where it does."""
    if subject.circuit is None or not subject.circuit.neurons:
        return
    table = subject.table("neurons")
    table = table[table["model"] == "trained"]
    true = {(n.layer, n.neuron): _combination(n) for n in subject.circuit.neurons}
    place = list(zip(table["layer"], table["neuron"], strict=True))
    score = table["score"] / table["score"].max()
    yield rows(table["name"], score, [int(at in true) for at in place])
    mine = table[[at in true for at in place]]
    said = [
        float((r.fact, r.peak) == ("decision", true[r.layer, r.neuron])) for r in mine.itertuples()
    ]
    said += [0.0] * (len(true) - len(mine))  # those that are not shown
    names = [*mine["name"], *["not shown"] * (len(true) - len(mine))]
    yield rows(names, said, np.ones(len(said)), part="fires at")


def _combination(neuron: Neuron) -> str:
    """As the dashboard calls the decision: ``key/left, RTG high``; the matching object is on that side."""
    side = "left" if neuron.instruction * neuron.target > 0 else "right"
    instruction = "key" if neuron.instruction > 0 else "ball"
    return f"{instruction}/{side}, RTG {'high' if neuron.high > 0 else 'low'}"
