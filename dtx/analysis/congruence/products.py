"""What weights say of each other without any input: what is written in a direction that something else reads.

Beside :func:`~dtx.analysis.congruence.compute.congruence`, which is what neurons write to the logits.
Weights as they are, float64; fold and centre a model first to read circuits from it.

Letters: l layer, f neuron that writes, g one that reads, c channel of the flattened view, d model, a action.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dtx.dt.forward import blocks_of
from dtx.dt.model import DecisionTransformerModel


@torch.no_grad()
def neuron_inputs(model: DecisionTransformerModel) -> Tensor:
    """(l, d, g) what makes each neuron fire: its input weights, in a gated MLP those of the gate."""
    mlps = [block.mlp for block in blocks_of(model)]
    return torch.stack([mlp.W_gate if mlp.gated else mlp.W_in for mlp in mlps]).double()


@torch.no_grad()
def neurons_to_neurons(model: DecisionTransformerModel, layer: int, to: int) -> Tensor:
    """(f, g) what a unit of each neuron of a layer adds to the input of each neuron of a later one."""
    return model.W_out[layer].double() @ neuron_inputs(model)[to]


@torch.no_grad()
def channels_to_logits(model: DecisionTransformerModel) -> Tensor:
    """(c, a) what each channel of the view adds to the logits by the residual stream alone.

    Raises:
        UserError: The state embedding is convolutional, so that a channel has no vector.
    """
    return model.embed.W_S.double() @ model.W_U.double()


@torch.no_grad()
def channels_to_neurons(model: DecisionTransformerModel, layer: int) -> Tensor:
    """(c, g) what each channel of the view adds to the input of a layer's neurons, by the stream alone.

    Raises:
        UserError: As of :func:`channels_to_logits`.
    """
    return model.embed.W_S.double() @ neuron_inputs(model)[layer]
