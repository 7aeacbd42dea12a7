"""What writes the decision of known models."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from dtx.analysis.core.answers import Subject, rows
from dtx.analysis.core.scoring import Wrong
from dtx.analysis.core.truth import name_of
from dtx.dt.circuit import Circuit
from dtx.dt.names import renamed


def answers(subject: Subject) -> Iterator[pd.DataFrame]:
    """The share of the logit difference that each component writes.

    Its control, random directions, is one of the largest component: in a negative nothing is found if that
    is not beyond it.
    """
    if subject.wrong is Wrong.reward_to_go:
        return
    # Of all targets the one whose largest component is largest, which comes first.
    table = subject.table("ranking").drop_duplicates("component")
    score = table["support"] / subject.size("ld")
    if subject.circuit is None and not subject.metric("established"):
        score = 0 * score
    labels = [_writes(subject.circuit, name) for name in table["component"]]
    yield rows(table["component"], score, labels)


def _writes(circuit: Circuit | None, component: str) -> int | None:
    """Whether a component has an edge to the logits; None where the model leaves it open."""
    if circuit is None:
        return 0
    writers = {name_of(e.sender) for e in circuit.edges if e.input == "logits"}
    if renamed(component) in writers:
        return 1 if circuit.neurons else None
    return 0
