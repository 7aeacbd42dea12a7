"""What is true of patched nodes in known models."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from dtx.analysis.core.answers import Subject, nodes, state_or_reward_to_go
from dtx.analysis.core.patching_spec import Direction


def answers(subject: Subject) -> Iterator[pd.DataFrame]:
    """Mean effect of each node at each token and reward-to-go, of edits of the world (``state``) and of
    reward-to-go apart.

    What is known of a model is what a node restores: that is denoising.
    """
    table = subject.edits(subject.table("patches"))
    table = table[table["direction"] == Direction.denoise.value]
    table = table.assign(effect=subject.effect(table))
    by = ["edit", "reward_to_go", "layer", "node", "head", "name", "position"]
    yield nodes(subject, table, by, "effect", state_or_reward_to_go)
