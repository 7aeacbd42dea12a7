"""What the decision of known models needs."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from dtx.analysis.core.answers import Subject, rows
from dtx.analysis.core.scoring import Wrong
from dtx.dt.circuit import LAST_STATE, Circuit


def answers(subject: Subject, last: bool) -> Iterator[pd.DataFrame]:
    """The share of the decision that each node is needed for or stands in the way of, by method: the largest
    over rewards-to-go, for some nodes are needed at one alone.

    Args:
        subject: The result, with what is known of the model.
        last: Nodes were ablated at the last state alone.
    """
    if subject.wrong is Wrong.reward_to_go:
        return  # what a decision needs does not say whether it heeds reward-to-go
    table = subject.table("ranking")
    table = table[table["kind"] != "neuron"]
    found = table["needed"] | table["hinders"]
    table = table.assign(score=table["share"].abs().where(found, 0.0))
    keys = ["method", "name", "layer", "kind", "unit"]
    table = table.groupby(keys, sort=False)["score"].max().reset_index()
    circuit = subject.circuit
    labels = [_needed(circuit, r.layer, r.kind, r.unit, last) for r in table.itertuples()]
    yield rows(table["name"], table["score"], labels, part=table["method"])


def _needed(circuit: Circuit | None, layer: int, kind: str, unit: int, last: bool) -> int | None:
    if circuit is None:
        return 0
    if circuit.variant.get("backup_head"):
        # The backup speaks when the main head is silent, so that neither is needed: see the test of it.
        if kind in ("head", "attention") and (layer in (1, 2)):
            return 0 if kind == "head" and unit else None
        if kind == "mlp" and layer == 1:
            return None  # it tells the backup head whether the main one spoke
    if (
        circuit.variant.get("redundant_heads")
        and kind == "head"
        and (layer, unit) in ((1, 0), (1, 1))
    ):
        # Either is enough when the other is silent; taken from another run it speaks against the other.
        return None
    if kind == "mlp" and not circuit.neurons:
        return None
    # At the last state alone a head that moves something between earlier tokens is not ablated.
    at_layer = [n for n in circuit.nodes if n.hook == f"blocks.{layer}.attn.hook_z"]
    heads = {n.head for n in at_layer if n.at == LAST_STATE or not last}
    if kind == "head":
        return int(unit in heads)
    if kind == "attention":
        return int(bool(heads))
    return int(any(n.hook == f"blocks.{layer}.hook_mlp_out" for n in circuit.nodes))
