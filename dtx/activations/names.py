"""Which activations of a model are one vector a token, known from its config alone: without torch."""

from __future__ import annotations

import re
from typing import Protocol

_BLOCK = (
    *("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out"),
    *("attn.hook_q", "attn.hook_k", "attn.hook_v", "attn.hook_z", "mlp.hook_pre", "mlp.hook_post"),
    *("mlp.hook_pre_linear", "ln1.hook_normalized", "ln1.hook_scale"),
    *("ln2.hook_normalized", "ln2.hook_scale"),
)
_OTHERS = ("hook_embed", "hook_pos_embed", "ln_final.hook_normalized", "ln_final.hook_scale")


class Shape(Protocol):
    """Sizes of a model: a config of it, or what a stage knows before it has run."""

    @property
    def n_layers(self) -> int: ...
    @property
    def d_model(self) -> int: ...
    @property
    def d_mlp(self) -> int: ...


def token_hooks(n_layers: int) -> list[str]:
    """Hook points whose value has one vector a token, in the order of a forward pass.

    A model without LayerNorm, position table or gated MLP has some of them not.
    """
    blocks = [f"blocks.{layer}.{part}" for layer in range(n_layers) for part in _BLOCK]
    return [*_OTHERS[:2], *blocks, *_OTHERS[2:]]


def width(name: str, shape: Shape) -> int:
    """Length of the vector at a hook point, all heads together; of a compiled model's heads, about."""
    if name.endswith("hook_scale"):
        return 1
    return shape.d_mlp if ".mlp." in name else shape.d_model


def layers_needed(names: tuple[str, ...]) -> int | None:
    """How many blocks must run before all of these are computed; None: the last LayerNorm, too."""
    layers = []
    for name in names:
        block = re.match(r"blocks\.(\d+)\.", name)
        if block is None and name.startswith("ln_final."):
            return None
        layers.append(int(block[1]) + 1 if block else 0)
    return max(layers, default=0)
