"""Where every head looks from every token; each row of a map adds up to 1."""

from __future__ import annotations

from typing import Any

import torch

from dtx.analysis.attention.patterns import by_kind
from dtx.app.panels import KEY, NoParameters
from dtx.app.subject import Reading, Sizes, Subject

TITLE = "Attention"
WHEN = KEY
NEEDS = ()
CONTROL = "The edited run's attention. Where a head looks need not be what it uses: see Ablation."
SOURCE = "dtx.analysis.attention.patterns.patterns"
DOC = "gallery.md#attention"
FIRST = True
SIZE = "wide"
Parameters = NoParameters


def hooks(cfg: Sizes) -> set[str]:
    """The patterns of all layers."""
    return {_name(layer) for layer in range(cfg.n_layers)}


def compute(moment: Subject, parameters: NoParameters) -> dict[str, Any]:
    """Patterns (l, h, n, m) of each side; ``by_kind`` (l, h, n, k): summed over keys of a kind."""
    data: dict[str, Any] = {
        "tokens": list(moment.original.tokens.names),
        "original": None,
        "edited": None,
        "kinds": list(moment.kinds),
    }
    for name, side in moment.sides.items():
        data[name] = patterns(side, moment.cfg)
    data["by_kind"] = by_kind(data["original"], moment.original.tokens, moment.kinds)
    return data


def patterns(side: Reading, cfg: Sizes) -> Any:
    """Attention (l, h, n, m) float32 of one window."""
    known = side.activations(hooks(cfg))
    return torch.cat([known[_name(layer)] for layer in range(cfg.n_layers)]).numpy()


def _name(layer: int) -> str:
    return f"blocks.{layer}.attn.hook_pattern"
