"""What is true of the edges of the smallest circuit in known models."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from dtx.analysis.core.answers import Subject, edges, state_or_reward_to_go


def answers(subject: Subject, runs: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """1 for each edge at a token that the smallest circuit has; ``runs`` is the table of path patching."""
    table = subject.table("circuit").assign(kind="edit", rho=1.0)
    yield edges(subject, subject.edits(table), runs, "rho", state_or_reward_to_go)
