"""What is true of patched nodes in known models."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from dtx.analysis.core.answers import Subject, effect, nodes, state_or_reward_to_go


def answers(subject: Subject, gap: float) -> Iterator[pd.DataFrame]:
    """C2 (``state``) and C3 (``reward_to_go``): mean effect of each node at each token."""
    table = subject.edits(subject.table("patches"))
    table = table.assign(effect=effect(table, gap, subject.positive))
    by = ["edit", "layer", "node", "head", "name", "position"]
    yield nodes(subject, table, by, "effect", state_or_reward_to_go)
