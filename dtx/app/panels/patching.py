"""Which activations carry the edit: each is put from one run into the other, one token at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dtx.analysis.core.patching_spec import DONORS, EDIT, NULL, Direction, Node, name_of
from dtx.app.panels import LONG, PAIR, choice
from dtx.app.subject import Subject

TITLE = "Activation patching"
WHEN = LONG
NEEDS = (PAIR,)
CONTROL = (
    "The same patches from two unrelated runs, one that ends in the original's decision and one that ends in "
    "the edited run's, and between two equal runs, where nothing may change."
)
SOURCE = "dtx.analysis.activation_patching.sweep.NodeSweep"
DOC = "gallery.md#activation_patching"
FIRST = False
SIZE = "wide"
AT_ONCE = 512
TOLERANCE = 1e-3
"""As ``conf/analysis/activation_patching.yaml`` has it."""


@dataclass(frozen=True)
class Parameters:
    """Attributes: see the help of each."""

    node: str = choice(
        Node.resid_pre.value, [node.value for node in Node], "What is patched; z, q, k, v and pattern by head"
    )  # fmt: skip
    direction: str = choice(
        Direction.denoise.value, [each.value for each in Direction],
        "denoise: from the original into the edited run; noise: the reverse",
    )  # fmt: skip


def overrides(parameters: Parameters) -> list[str]:
    """Those of ``dtx run`` that compute the same of the scene's pairs file."""
    name = "analysis.activation_patching"
    return [
        "analysis=[activation_patching]",
        f"{name}.nodes=[{parameters.node}]",
        f"{name}.directions=[{parameters.direction}]",
    ]


def compute(moment: Subject, parameters: Parameters) -> Iterator[tuple[float, dict[str, Any]]]:
    """Yield (share done, data): every row of the map as soon as it is known.

    Returns:
        ``rows`` (r names: a layer's node or a head), ``tokens`` (n names), ``changed`` (n,) which tokens the
        edit changes, ``rho`` and ``change`` of LD (r, n), NaN where not known yet; rho is NaN where both
        runs' LD differ by less than ``gap``. ``donors``: for each control its ``kind``, ``expected`` rho
        (None: not known) and ``rho`` (r, n). ``ld``: of both runs. ``null``: the largest change between equal
        runs.
    """
    node, direction, gap = Node(parameters.node), Direction(parameters.direction), moment.gap
    sweep = moment.sweep(node, direction, AT_ONCE)
    batch = sweep.batch
    cfg, runs, n = moment.cfg, sweep.runs.table(), len(batch.names)
    heads = range(cfg.n_heads) if node.each_head else [None]
    rows = [name_of(layer, node.value, head) for layer in range(cfg.n_layers) for head in heads]
    own = runs[runs["kind"] == EDIT].iloc[0]
    rho = {kind: np.full((len(rows), n), np.nan) for kind in (EDIT, *DONORS)}
    change, null = np.full((len(rows), n), np.nan), np.nan
    controls = [row for _, row in batch.table.iterrows() if row["kind"] in DONORS]
    for share, table in sweep.parts():  # ends early when nobody waits
        place = rows.index(str(table["name"].iloc[0]))
        for kind, values in rho.items():
            if len(mine := table[table["kind"] == kind]):
                values[place] = _by_position(mine, "rho", n)
        change[place] = _by_position(table[table["kind"] == EDIT], "change", n)
        null = float(np.fmax(null, table.loc[table["kind"] == NULL, "change"].abs().max()))
        yield (
            share,
            {
                "node": node.value,
                "direction": direction.value,
                "rows": rows,
                "tokens": list(moment.original.tokens.names),
                "changed": batch.changed[int(own.name)].numpy(),
                "rho": rho[EDIT].copy(),
                "change": change.copy(),
                "donors": [_donor(row, direction, rho[str(row["kind"])]) for row in controls],
                "ld": {"original": float(own["ld_clean"]), "edited": float(own["ld_corrupt"])},
                "gap": gap,
                "measurable": bool(own["measurable"]),
                "null": null,
                "check": {
                    "name": "patching between two equal runs changes nothing",
                    "error": null,
                    "tolerance": TOLERANCE,
                    "holds": null <= TOLERANCE,
                },
            },
        )


def _by_position(table: pd.DataFrame, column: str, n: int) -> np.ndarray:
    values = np.full(n, np.nan)
    values[table["position"].to_numpy()] = table[column].to_numpy()
    return values


def _donor(row: pd.Series, direction: Direction, rho: np.ndarray) -> dict[str, Any]:
    like = str(row["kind"]).removeprefix("donor_")
    return {
        "kind": str(row["kind"]),
        "like": {"clean": "original", "corrupt": "edited"}[like],
        "edit_as": str(row["edit_as"]),
        "expected": direction.expected(like),
        "rho": rho.copy(),
    }
