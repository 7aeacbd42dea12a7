"""Where known models decide."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from dtx.analysis.core.answers import Subject, rows
from dtx.analysis.core.scoring import Wrong


def answers(subject: Subject, high: float, step: int, threshold: float) -> Iterator[pd.DataFrame]:
    """Decision squares, by divergence of policies in units that put its threshold at ours."""
    if subject.wrong is Wrong.reward_to_go:
        return
    table = subject.table("divergence")
    table = table[(table["model"] == "trained") & (table["target"] == high)]
    before = table[table["before_turn"]]
    decisive = before.loc[before["steps"] == step, ["x", "y"]]
    true = set(decisive.itertuples(index=False, name=None)) if subject.circuit else set()
    cells = table.groupby(["x", "y"]).divergence.max()
    score = cells / threshold * subject.positive
    yield rows([f"{x},{y}" for x, y in cells.index], score, [int(c in true) for c in cells.index])
