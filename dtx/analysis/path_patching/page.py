"""A page to look through all edges: choose edit, pairs, reward-to-go and threshold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pandas as pd

from dtx.analysis.core.page import Heading, ResultPage
from dtx.analysis.core.result import Result
from dtx.analysis.path_patching.plots import row_of
from dtx.dt.names import MLP, attention_name, mlp_name, part_of, renamed

LEAST = 0.005
"""Cells that restore less than this everywhere, of either sign, are not on the page; the table has them."""


class PathsPage(ResultPage):
    """A page (:class:`dtx.report.Page`) of all edges that reach :data:`LEAST`.

    Args:
        result: Of path patching. heading: What stands at the top. direction: Of the patches.
    """

    template: ClassVar[str] = "analysis/path_patching/page.html"

    def __init__(self, result: Result, heading: Heading, direction: str):
        super().__init__(result, heading)
        self.direction = direction

    def values(self) -> Mapping[str, Any]:
        """All cells that reach :data:`LEAST`."""
        return {"data": _data(self.result), "direction": self.direction}


def _data(result: Result) -> dict[str, Any]:
    table = result.tables["edges"]
    table = table[table["rho"].abs() >= LEAST]
    names = sorted({*table["sender"], *table["receiver"]}, key=lambda n: (row_of(n), _head(n)))
    number = {name: i for i, name in enumerate(names)}
    top = max([row_of(name) for name in names if name != "logits"], default=0.0) + 1
    rows = [min(row_of(name), top) for name in names]
    cells: dict[tuple, int] = {}
    groups = []
    of = ["edit", "kind", "reward_to_go"]
    for key, rows_of_group in table.groupby(of, sort=False, observed=True):
        edit, kind, target = key  # type: ignore[misc]
        edges = []
        for e in rows_of_group.itertuples():
            cell = (number[str(e.sender)], number[str(e.receiver)], str(e.input), int(e.position))  # type: ignore[arg-type]
            values = [round(float(x), 4) for x in (e.rho, e.low, e.high)]  # type: ignore[arg-type]
            edges.append([cells.setdefault(cell, len(cells)), *values])
        pairs = int(pd.Series(rows_of_group["pairs"]).max())
        groups.append(
            {"edit": edit, "kind": kind, "target": target, "pairs": pairs, "edges": edges}
        )
    bands = {str(int(row)): _band(name) for name, row in zip(names, rows, strict=True)}
    return {
        "names": [renamed(name) for name in names],
        "rows": [int(row) for row in rows],
        "bands": bands,
        "tokens": result.arrays["tokens"].tolist(),
        "least": LEAST,
        "cells": [list(cell) for cell in cells],
        "groups": groups,
    }


def _head(name: str) -> int:
    part = part_of(name)
    return part.unit if part else 0


def _band(name: str) -> str:
    if name in ("embed", "logits"):
        return "embedding" if name == "embed" else name
    part = part_of(name)
    assert part is not None, name
    return mlp_name(part.layer) if part.kind == MLP else attention_name(part.layer)
