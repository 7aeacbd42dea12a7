"""Dictionaries that differ by their seed alone, as one; and the sparsest that keep the return."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dtx.analysis.core.verdicts import Relation
from dtx.analysis.dictionaries.numbers import over_seeds
from dtx.analysis.dictionaries.spec import IDENTITY, KEPT, KINDS, MEAN, UNTRAINED
from dtx.estimate import Estimate

SAME = ["kind", "hook", "width", "sparsity"]
"""What dictionaries of one group share."""


def estimate(row: Any) -> Estimate:
    """The number of a row (a Series or a named tuple) of the tables ``numbers`` and ``groups``."""
    return Estimate(
        float(row.value), float(row.low), float(row.high), int(row.n), str(row.interval)
    )


def grouped(numbers: pd.DataFrame) -> pd.DataFrame:
    """The table ``groups``: one row for each kind, hook, width, sparsity, measure and target."""
    rows = []
    order = {kind: place for place, kind in enumerate(KINDS)}
    by = [*SAME, "measure", "target"]
    for key, part in numbers.groupby(by, sort=False, dropna=False):
        about = dict(zip(by, key, strict=True))
        of = "untrained networks" if about["kind"] == UNTRAINED else "seeds"
        one = over_seeds([estimate(row) for row in part.itertuples()], of)
        rows.append(
            {**about, "seeds": len(part), "l0": float(part["l0"].mean()), "value": one.value,
             **one.columns()}
        )  # fmt: skip
    table = pd.DataFrame(rows)
    place = table["kind"].map(order)
    return table.assign(place=place).sort_values("place", kind="stable").drop(columns="place")


def smallest(groups: pd.DataFrame, target: float, share: float) -> pd.DataFrame:
    """The table ``smallest``: by kind, hook and width the smallest l0 that keeps the return.

    It is kept where the lower end of its interval is at least the share: one that may keep less is not
    known to. l0 is missing where none does; ``decided`` says whether any might.
    """
    rows = []
    chosen = groups[(groups["measure"] == KEPT) & (groups["target"] == target)]
    chosen = chosen[~chosen["kind"].isin([MEAN, IDENTITY])]
    by = ["kind", "hook", "width"]
    # Bare dimensions and components have as many features as they keep: they are one curve, too.
    chosen = chosen.assign(width=chosen["width"].where(chosen["width"] != chosen["sparsity"], 0))
    for key, part in chosen.groupby(by, sort=False):
        part = part.sort_values("l0")
        known = [Relation.AT_LEAST.decides(estimate(row), share) for row in part.itertuples()]
        which = known.index(True) if True in known else None
        row = dict(zip(by, key, strict=True))
        row["l0"] = np.nan if which is None else float(part["l0"].iloc[which])
        row["decided"] = which is not None or None not in known
        rows.append(row)
    return pd.DataFrame(rows, columns=[*by, "l0", "decided"])
