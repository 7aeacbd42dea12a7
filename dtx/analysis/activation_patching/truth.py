"""What is true of patched nodes in known models."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from dtx.analysis.core.answers import Subject, nodes, state_or_reward_to_go


def answers(subject: Subject) -> Iterator[pd.DataFrame]:
    """Mean effect of each node at each token, of edits of the world (``state``) and of reward-to-go apart."""
    table = subject.edits(subject.table("patches"))
    table = table.assign(effect=subject.effect(table))
    by = ["edit", "layer", "node", "head", "name", "position"]
    yield nodes(subject, table, by, "effect", state_or_reward_to_go)
