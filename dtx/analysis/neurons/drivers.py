"""What makes one neuron fire at one state: its input as a sum over what the residual stream was made of.

Letters: b window, p part, n token, d model, h head, e head width, c channel of the flattened view.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dtx.analysis.attribution.compute import last_observation
from dtx.analysis.congruence.products import neuron_inputs
from dtx.dt.context import Context
from dtx.dt.forward import blocks_of
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.names import head_name, mlp_name
from dtx.dt.processing import BiasedGatedMLP

BIASES = "biases"


@dataclass(frozen=True)
class Drivers:
    """A neuron's input at the last state token.

    Attributes:
        names: Of the parts. value_bp: What each adds. input_b: The input at run time.
        channel_bc: What each of the view's channels adds, 0 where it is not active; None with a
            convolutional encoder.
    """

    names: list[str]
    value_bp: Tensor
    input_b: Tensor
    channel_bc: Tensor | None

    @property
    def error(self) -> float:
        """How far the parts are from adding up to the input, and channels to what the state adds."""
        apart = (self.value_bp.sum(1) - self.input_b).abs().max()
        if self.channel_bc is not None:
            state_b = self.value_bp[:, self.names.index("state")]
            apart = torch.maximum(apart, (self.channel_bc.sum(1) - state_b).abs().max())
        return float(apart)


@torch.no_grad()
def drivers(model: DecisionTransformerModel, context: Context, layer: int, neuron: int) -> Drivers:
    """Split a neuron's input (of a gated MLP that of its gate) at the last state token.

    Args:
        model: Folded and centred, float64.
        context: Windows, float64.
        layer: Of the neuron. neuron: Its number.
    """
    cfg, place = model.cfg, f"blocks.{layer}"
    names = [
        "embed.hook_state",
        "embed.hook_time",
        f"{place}.ln2.hook_scale",
        f"{place}.mlp.hook_pre",
    ]
    names += [f"blocks.{i}.attn.hook_z" for i in range(layer + 1)]
    names += [f"blocks.{i}.hook_mlp_out" for i in range(layer)]
    wanted = {*names, *(["hook_pos_embed"] if cfg.positional_embedding else [])}
    _, cache = model.run_with_cache(context, names_filter=wanted.__contains__)
    into_d = neuron_inputs(model)[layer][:, neuron]
    scale_b = cache[names[2]][:, -1, 0] if names[2] in cache else torch.ones(len(context)).double()
    state_bd, time_bd = (cache[name][:, -1] for name in names[:2])
    linear, embed = cfg.state_encoder == "linear", model.embed
    bias_d = torch.zeros_like(into_d) if embed.b_S is None or not linear else embed.b_S
    parts = {"state": (state_bd - bias_d) @ into_d, "time": time_bd @ into_d}
    if cfg.positional_embedding:
        position_bnd = cache["hook_pos_embed"].expand(len(context), -1, -1)
        parts["position"] = position_bnd[:, -1] @ into_d
    for i, block in enumerate(blocks_of(model)[: layer + 1]):
        z_bhe = cache[f"blocks.{i}.attn.hook_z"][:, -1]
        head_bh = torch.einsum("bhe,he->bh", z_bhe, block.attn.W_O @ into_d)
        parts |= {head_name(i, h): head_bh[:, h] for h in range(cfg.n_heads)}
        bias_d = bias_d + block.attn.b_O
        if i < layer:
            parts[mlp_name(i)] = cache[f"blocks.{i}.hook_mlp_out"][:, -1] @ into_d
    biases_b = bias_d @ into_d / scale_b + _own_bias(model, layer, neuron)
    value_bp = torch.stack([*parts.values()], 1) / scale_b[:, None]
    channel_bc = None
    if linear:
        active_bc = last_observation(context).to(into_d.dtype)
        channel_bc = active_bc * (embed.W_S @ into_d) / scale_b[:, None]
    return Drivers(
        [*parts, BIASES],
        torch.cat([value_bp, biases_b[:, None]], 1),
        cache[names[3]][:, -1, neuron],
        channel_bc,
    )


def _own_bias(model: DecisionTransformerModel, layer: int, neuron: int) -> Tensor:
    """The bias of what makes a neuron fire; a gate has one only where a LayerNorm was folded into it."""
    mlp = blocks_of(model)[layer].mlp
    if isinstance(mlp, BiasedGatedMLP):
        return mlp.b_gate[neuron]
    return torch.zeros(()) if mlp.gated else mlp.b_in[neuron]
