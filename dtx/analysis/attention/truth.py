"""Where the heads of known models look."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from dtx.analysis.core.answers import Subject, rows
from dtx.analysis.core.truth import Known
from dtx.dt.names import head_name


def answers(subject: Subject) -> Iterator[pd.DataFrame]:
    """Where the circuit's heads look from the decision. Other heads may look anywhere."""
    if subject.circuit is None:
        return
    table = subject.table("maps")
    last = table["query_at"].max()
    mean = table[table["query_at"] == last].groupby(["layer", "head", "key_at"]).attention.mean()
    known = Known(subject.circuit, (int(last) + 2) // 3)
    for (layer, head), places in known.carriers().items():
        attention = mean[layer, head]
        label = [1 if key in places else 0 for key in attention.index]
        # It has to choose among tokens, not to look at all that are as good.
        name, score = head_name(layer, head), attention.to_numpy()
        yield rows(name, score, label, part="where", position=attention.index)
