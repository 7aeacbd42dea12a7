"""Claims of analyses that have to come out one way on a model whose answer is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from dtx.analysis.core.claims import CLAIMS, CONFIRMED, read_claims
from dtx.analysis.scorecard import Wrong
from dtx.dt.circuit import Circuit

TRUE_OF_PLANTED = {
    "psychology": ("a set routine", "one decision square", "the decision is cached"),
    "lens": ("the prediction forms inside",),
    "activation_patching": ("instruction_flip moves",),
    "steering": ("RTG behaviour can be switched off",),
}
"""Beginnings of claims that hold in every planted model, by construction."""
OF_REWARD_TO_GO = (
    "reward-to-go moves attention",
    "states and actions look at",
    "diffuse off the routine",
    "mass on non-kinetic",
    "rtg_zero is collected",
    "a lower reward-to-go",
    "RTG behaviour can be",
)
"""Beginnings of claims about reward-to-go, which a model that does not heed it cannot fulfil."""
OF_THE_INSTRUMENT = ("the tuned lens reads better",)
"""Claims about an instrument, which may well hold of any model."""


def claims(
    name: str, folder: Path, circuit: Circuit | None, wrong: Wrong | None
) -> Iterator[pd.DataFrame]:
    """One answer a claim: score 1 if it was confirmed."""
    if not (folder / CLAIMS).exists():
        return
    rows = []
    for claim in read_claims(folder):
        label = _label(name, claim.claim, circuit, wrong)
        if label is not None:
            rows.append((claim.claim, float(claim.verdict == CONFIRMED), float(label)))
    frame = pd.DataFrame(rows, columns=["what", "score", "label"])
    yield frame.assign(part="claims", edit="", position=-1, expected=np.nan)


def _label(name: str, claim: str, circuit: Circuit | None, wrong: Wrong | None) -> int | None:
    if claim.startswith(OF_THE_INSTRUMENT):
        return None
    if wrong is Wrong.everything:
        return 0
    if wrong is Wrong.reward_to_go:
        return 0 if claim.startswith(OF_REWARD_TO_GO) else None
    if circuit is not None and circuit.neurons:
        return 1 if claim.startswith(TRUE_OF_PLANTED.get(name, ("\0",))) else None
    return None
