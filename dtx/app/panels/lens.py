"""What the residual stream at the last state says if it is read out early, after every layer's parts."""

from __future__ import annotations

from typing import Any

import torch

from dtx.app.panels import KEY, NoParameters
from dtx.app.subject import Sizes, Subject

TITLE = "Logit lens"
WHEN = KEY
NEEDS = ()
CONTROL = "The edited run's. The last point is the model's own output, exactly."
SOURCE = "dtx.analysis.lens.streams.read"
DOC = "gallery.md#lens"
FIRST = True
SIZE = "half"
TOLERANCE = 1e-4
Parameters = NoParameters


def hooks(cfg: Sizes) -> set[str]:
    """The stream at all points."""
    return set(_names(cfg))


def compute(moment: Subject, parameters: NoParameters) -> dict[str, Any]:
    """Logits (p, a) and LD (p,) that each point of the stream is read as."""
    names = list(moment.points.values())
    data: dict[str, Any] = {"points": list(moment.points), "edited": None}
    errors = []
    for name, side in moment.sides.items():
        known = side.activations(names)
        with torch.no_grad():
            logits = moment.read(torch.stack([known[n][0, -1] for n in names]))
        errors.append(float((logits[-1] - side.logits).abs().max()))
        data[name] = {"logits": logits, "ld": moment.ld(logits)}
    error = max(errors)
    data["check"] = {
        "name": "the last point is the model's output",
        "error": error,
        "tolerance": TOLERANCE,
        "holds": error <= TOLERANCE,
    }
    return data


def _names(cfg: Sizes) -> list[str]:
    """Hooks of the points in order."""
    inner = [
        f"blocks.{i}.hook_resid_{part}" for i in range(cfg.n_layers) for part in ("mid", "post")
    ]
    return ["blocks.0.hook_resid_pre", *inner]
