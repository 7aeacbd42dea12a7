"""What the decision of known models needs."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from dtx.analysis.core.answers import Subject, rows
from dtx.analysis.core.scoring import Wrong
from dtx.dt.circuit import Circuit


def answers(subject: Subject) -> Iterator[pd.DataFrame]:
    """The share of the logit difference for which each node is needed, by method."""
    if subject.wrong is Wrong.reward_to_go:
        return  # what a decision needs does not say whether it heeds reward-to-go
    table = subject.table("ranking")
    table = table[table["kind"] != "neuron"]
    score = table["change"].abs() / subject.size("ld")
    labels = [_needed(subject.circuit, r.layer, r.kind, r.unit) for r in table.itertuples()]
    yield rows(table["name"], score.where(table["needed"], 0.0), labels, part=table["method"])


def _needed(circuit: Circuit | None, layer: int, kind: str, unit: int) -> int | None:
    if circuit is None:
        return 0
    if circuit.variant.get("backup_head"):
        # The backup speaks when the main head is silent, so that neither is needed: see the test of it.
        if kind in ("head", "attention") and (layer in (1, 2)):
            return 0 if kind == "head" and unit else None
        if kind == "mlp" and layer == 1:
            return None  # it tells the backup head whether the main one spoke
    if kind == "mlp" and not circuit.neurons:
        return None
    heads = {head for at, head in circuit.heads() if at == layer}
    if kind == "head":
        return int(unit in heads)
    if kind == "attention":
        return int(bool(heads))
    return int(any(n.hook == f"blocks.{layer}.hook_mlp_out" for n in circuit.nodes))
