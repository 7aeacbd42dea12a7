"""What is true of patched edges in known models."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from dtx.analysis.core.answers import Subject, edges, state_or_reward_to_go


def answers(subject: Subject) -> Iterator[pd.DataFrame]:
    """Mean rho of each edge at each token and reward-to-go."""
    table, runs = subject.edits(subject.table("edges")), subject.table("runs")
    for target, asked in runs.groupby("reward_to_go", sort=False):
        here = table[table["reward_to_go"] == target]
        yield edges(subject, here, asked, "rho", state_or_reward_to_go)
