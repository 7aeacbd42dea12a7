"""What is true of the edges of the smallest circuit in known models."""

from __future__ import annotations

from collections.abc import Iterator

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
    yield edges(
        subject, subject.edits(share), subject.table("runs"), "share", state_or_reward_to_go
    )
