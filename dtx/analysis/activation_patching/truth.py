"""What is true of patched nodes in known models."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from dtx.analysis.core.answers import Subject, effect, nodes, state_or_reward_to_go


def answers(subject: Subject, gap: float) -> Iterator[pd.DataFrame]:
    """Mean effect of each node at each token, of edits of the world (``state``) and of reward-to-go apart.

    Args:
        subject: The result, with what is known of the model.
        gap: Smallest difference of the two runs at which rho means something.
    """
    table = subject.edits(subject.table("patches"))
    table = table.assign(effect=effect(table, gap, subject.positive))
    by = ["edit", "layer", "node", "head", "name", "position"]
    yield nodes(subject, table, by, "effect", state_or_reward_to_go)
