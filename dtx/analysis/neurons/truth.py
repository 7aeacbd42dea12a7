"""Which neurons of known models are shown, and where each fires."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from dtx.analysis.core.answers import Subject, rows
from dtx.analysis.neurons.spec import TRAINED
from dtx.dt.circuit import Neuron


def answers(subject: Subject) -> Iterator[pd.DataFrame]:
    """Which neurons are shown, and whether each one is said to fire where it does."""
    if subject.circuit is None or not subject.circuit.neurons:
        return
    table = subject.table("neurons")
    table = table[table["model"] == TRAINED]
    true = {(n.layer, n.neuron): _combination(n) for n in subject.circuit.neurons}
    place = list(zip(table["layer"], table["neuron"], strict=True))
    score = table["score"] / table["score"].max()
    yield rows(table["name"], score, [int(at in true) for at in place])
    known = table[[at in true for at in place]]
    right = [
        float((r.fact, r.peak) == ("decision", true[r.layer, r.neuron])) for r in known.itertuples()
    ]
    missing = len(true) - len(known)  # those that are not shown
    names, right = [*known["name"], *["not shown"] * missing], [*right, *[0.0] * missing]
    yield rows(names, right, np.ones(len(right)), part="fires at")


def _combination(neuron: Neuron) -> str:
    """As the dashboard calls the decision: ``key/left, RTG high``; the matching object is on that side."""
    side = "left" if neuron.instruction * neuron.target > 0 else "right"
    instruction = "key" if neuron.instruction > 0 else "ball"
    return f"{instruction}/{side}, RTG {'high' if neuron.high > 0 else 'low'}"
