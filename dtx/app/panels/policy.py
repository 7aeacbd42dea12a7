"""Probability and logit of every action at the state that is looked at, before and after the edit."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dtx.app.panels import KEY, NoParameters
from dtx.app.subject import Subject, entropy

TITLE = "What it would do"
WHEN = KEY
NEEDS = ()
CONTROL = "The same at the edited run, and of every other model at the same state."
SOURCE = "dtx.dt.model.DecisionTransformerModel.last_logits"
DOC = "explorer.md#what-it-would-do"
FIRST = True
SIZE = "half"
Parameters = NoParameters


def compute(moment: Subject, parameters: NoParameters) -> dict[str, Any]:
    """Logits, probabilities, entropy in nats and LD of each side."""
    data = described(
        {name: side.logits for name, side in moment.sides.items()}, moment.contrast, moment.actions
    )
    for name, side in moment.sides.items():
        data[name]["entropy"] = side.entropy
    return data | {"gap": moment.gap, "value": None}


def described(
    logits: dict[str, Tensor], contrast: tuple[int, int], actions: tuple[str, ...]
) -> dict[str, Any]:
    """The data of logits (a,) by side."""
    positive, negative = contrast
    data: dict[str, Any] = {"actions": list(actions), "original": None, "edited": None}
    data["contrast"] = [actions[positive], actions[negative]]
    for name, logits_a in logits.items():
        log_p = logits_a.double().log_softmax(-1)
        data[name] = {
            "logits": logits_a,
            "probabilities": log_p.exp(),
            "entropy": entropy(logits_a),
            "ld": float(logits_a[positive] - logits_a[negative]),
        }
    return data
