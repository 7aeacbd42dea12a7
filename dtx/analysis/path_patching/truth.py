"""What is true of patched edges in known models."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from dtx.analysis.core.answers import Subject, edges, state_or_reward_to_go


def answers(subject: Subject) -> Iterator[pd.DataFrame]:
    """Mean rho of each edge at each token."""
    table = subject.edits(subject.table("edges"))
    yield edges(subject, table, subject.table("runs"), "rho", state_or_reward_to_go)
