"""Where the prediction of known models forms."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from dtx.analysis.core.answers import Subject, rows


def answers(subject: Subject) -> Iterator[pd.DataFrame]:
    """The point at which the prediction forms: behind the deciding MLP."""
    if subject.circuit is None or not subject.circuit.neurons:
        return
    points = subject.table("points").drop_duplicates("order").sort_values("order")
    formed = subject.metric("formed_at")
    layer = subject.circuit.neurons[0].layer
    label = [int(order == 2 * layer + 2) for order in points["order"]]
    yield rows(points["point"], [float(order == formed) for order in points["order"]], label)
