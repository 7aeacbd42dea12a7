"""The nodes that are ablated, and forward passes in which they are.

Letters: b window, r row of a forward pass (one node of one window), n token, d model, a action, u unit of a
hook (head, neuron; one of an output), w width of a unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dtx.dt.context import Context
from dtx.dt.forward import run_from
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.names import ATTENTION, HEAD, MLP, NEURON, Part, part_of

HOOKS = {
    HEAD: "attn.hook_z",
    ATTENTION: "hook_attn_out",
    MLP: "hook_mlp_out",
    NEURON: "mlp.hook_post",
}


def hook_of(layer: int, kind: str) -> str:
    """TransformerLens's name of the activation that nodes of a kind are parts of."""
    return f"blocks.{layer}.{HOOKS[kind]}"


def units(value: Tensor, kind: str) -> Tensor:
    """An activation as (b, n, u, w), a view."""
    if kind == HEAD:
        return value
    return value.unsqueeze(-1) if kind == NEURON else value.unsqueeze(2)


class AblatedNode(Part):
    """A head, an attention's output, an MLP's output or a neuron."""

    @staticmethod
    def parse(name: str) -> AblatedNode:
        """A node by its name.

        Raises:
            ValueError: It is no node's name.
        """
        part = part_of(name)
        if part is None:
            raise ValueError(f"{name!r} is no node")
        return AblatedNode(*part)

    def silence(self) -> tuple[str, Callable]:
        """A hook that holds it at 0 at every token."""

        def hold(value: Tensor, hook: Any) -> Tensor:
            value = value.clone()
            units(value, self.kind)[:, :, self.unit] = 0
            return value

        return hook_of(self.layer, self.kind), hold


def nodes_of(model: DecisionTransformerModel, neurons: Sequence[int]) -> list[AblatedNode]:
    """All heads and outputs, layer by layer, and the neurons of some layers."""
    nodes = []
    for layer in range(model.cfg.n_layers):
        nodes += [AblatedNode(layer, HEAD, head) for head in range(model.cfg.n_heads)]
        nodes += [AblatedNode(layer, ATTENTION), AblatedNode(layer, MLP)]
        if layer in neurons:
            nodes += [AblatedNode(layer, NEURON, f) for f in range(model.cfg.d_mlp)]
    return nodes


class Ablator:
    """Runs a model with parts of one activation replaced, from their layer on.

    Args:
        model: Possibly with hooks of its own, which stay in force.
        context: Windows. mask_bn: Tokens at which is ablated.
        at_once: Rows computed at once.
        hooked: The model has hooks of its own.

    Attributes:
        base: Activations of the windows by hook. logits_ba: At the last state, float64.
    """

    def __init__(
        self,
        model: DecisionTransformerModel,
        context: Context,
        mask_bn: Tensor,
        at_once: int,
        hooked: bool,
    ):
        self.model, self.mask_bn, self.at_once, self.hooked = model, mask_bn, at_once, hooked
        layers = range(model.cfg.n_layers)
        names = {hook_of(layer, kind) for layer in layers for kind in HOOKS}
        names |= {f"blocks.{layer}.hook_resid_pre" for layer in layers}
        logits, cache = model.run_with_cache(context, names_filter=lambda name: name in names)
        self.base: dict[str, Tensor] = dict(cache)
        self.logits_ba = logits[:, -1].double()

    def run(
        self,
        layer: int,
        kind: str,
        row: Tensor,
        unit: Tensor,
        new: Callable[[slice, Tensor], Tensor],
    ) -> Tensor:
        """Logits (r, a) float64 at the last state.

        Args:
            layer: Of the activation. kind: Its kind.
            row: (r,) the window of each row. unit: (r,) the unit that is replaced; -1: all of them.
            new: From the rows at hand and their value (r', n, u, w) to what it becomes.
        """
        found = []
        for begin in range(0, len(row), self.at_once):
            part = slice(begin, begin + self.at_once)
            found.append(self._forward(layer, kind, row[part], unit[part], part, new))
        return torch.cat(found).double()

    def _forward(
        self,
        layer: int,
        kind: str,
        row: Tensor,
        unit: Tensor,
        part: slice,
        new: Callable[[slice, Tensor], Tensor],
    ) -> Tensor:
        def replace(value: Tensor, hook: Any) -> Tensor:
            value_rnuw = units(value, kind)
            every = torch.arange(value_rnuw.shape[2])
            chosen_ru = (unit[:, None] == every) | (unit[:, None] < 0)
            chosen = chosen_ru[:, None, :, None] & self.mask_bn[row][:, :, None, None]
            return torch.where(chosen, new(part, value_rnuw), value_rnuw).reshape(value.shape)

        resid_rnd = self.base[f"blocks.{layer}.hook_resid_pre"][row]
        hooks = [(hook_of(layer, kind), replace)]
        return run_from(self.model, layer, resid_rnd, hooks, last_token_only=not self.hooked)
