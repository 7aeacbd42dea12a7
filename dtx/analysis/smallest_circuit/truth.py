"""What is true of the edges of the smallest circuit in known models."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from dtx.analysis.core.answers import Subject, edges, state_or_reward_to_go
from dtx.analysis.smallest_circuit.spec import CELL


def answers(subject: Subject) -> Iterator[pd.DataFrame]:
    """Share of an edit's circuits (rewards-to-go, directions) that have an edge at a token."""
    table = subject.table("circuit").assign(kind="edit")
    circuits = table[CELL].drop_duplicates().groupby("edit").size()
    by = ["edit", "kind", "sender", "receiver", "input", "position"]
    share = table.groupby(by).size().rename("share").reset_index()
    share["share"] = share["share"] / circuits.loc[share["edit"]].to_numpy()
    runs = subject.table("runs")
    found = edges(subject, subject.edits(share), runs, "share", state_or_reward_to_go)
    # Whether an edge is in a circuit, not how much it carries: one of two that carry a half is as needed.
    yield found.assign(expected=np.nan)
