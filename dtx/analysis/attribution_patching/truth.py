"""What is true of estimated nodes and edges in known models."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from dtx.analysis.attribution_patching.spec import EDGE_METHODS, NODE_METHODS
from dtx.analysis.core.answers import Subject, edges, nodes, place_of


def answers(subject: Subject) -> Iterator[pd.DataFrame]:
    """Every estimate of nodes and edges at each reward-to-go, each method apart."""
    table = subject.edits(subject.table("nodes"))
    by = ["edit", "reward_to_go", "layer", "node", "head", "name", "position"]
    for method in NODE_METHODS:
        yield nodes(subject, table, by, method, lambda _, m=method: m).assign(expected=np.nan)
    columns = [
        "edit",
        "kind",
        "reward_to_go",
        "sender",
        "receiver",
        "input",
        "token",
        *EDGE_METHODS,
    ]
    table = subject.edits(subject.table("estimated_edges").reindex(columns=columns))
    table = table.assign(position=table["token"].map(place_of))
    runs = subject.table("runs")
    for target, asked in runs.groupby("reward_to_go", sort=False):
        here = table[table["reward_to_go"] == target]
        for method in EDGE_METHODS:
            found = edges(subject, here, asked, method, lambda _, m=method: m)
            yield found.assign(expected=np.nan)
