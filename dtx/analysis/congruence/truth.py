"""Which neurons of known models write the turn."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from dtx.analysis.congruence.spec import RAW, TRAINED
from dtx.analysis.core.answers import Subject, rows
from dtx.dt.names import neuron_name


def answers(subject: Subject) -> Iterator[pd.DataFrame]:
    """Which neurons write the turn; sizes as shares of the largest."""
    if subject.circuit is None or not subject.circuit.neurons:
        return
    table = subject.table("congruence")
    table = table[(table["model"] == TRAINED) & (table["weights"] == RAW)]
    size = table.pivot_table(index=["layer", "neuron"], columns="action", values="congruence")
    score = (size["left"] - size["right"]).abs()
    true = {(n.layer, n.neuron) for n in subject.circuit.neurons}
    names = [neuron_name(layer, neuron) for layer, neuron in score.index.to_list()]
    yield rows(names, (score / score.max()).to_numpy(), [int(i in true) for i in score.index])
