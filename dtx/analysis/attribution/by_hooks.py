"""The logit difference in parts, for any model with TransformerLens's hooks and names of weights.

The parts are read from one run, and the last normalisation's scale is held as it is in that run. Of a model
that has something else between them (a normalisation of what a block writes, a cap on logits) they do not add
up, which :meth:`Attributed.errors` says.

Letters: b prompt, n token, m source token, d model, h head, e head width, f neuron, k direction (0 is the
contrast's, the rest are random), p component, v tokens that there are.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtx.analysis.attribution.compute import Attributed
from dtx.analysis.attribution.spec import BIAS
from dtx.dt.names import attention_name, head_name, mlp_name

TOLERANCE = 1e-3
"""How far the parts' sum may be from the logit difference; the run is in the model's own numbers."""


@torch.no_grad()
def attribute(
    model: Any, tokens: Tensor, pair: tuple[int, int], random_directions: int, seed: int
) -> Attributed:
    """Split logit[pair[0]] - logit[pair[1]] at the last token of every prompt.

    Args:
        model: With TransformerLens's hooks.
        tokens: (b, n) of prompts.
        pair: Two tokens.
        random_directions: Directions of the same norm, attributed beside it.
        seed: Of those.
    """
    layers = range(model.cfg.n_layers)
    last = f"blocks.{layers[-1]}.hook_resid_post"
    parts = ("attn.hook_pattern", "attn.hook_v", "attn.hook_z")
    names = [
        "blocks.0.hook_resid_pre",
        last,
        *(f"blocks.{i}.{part}" for i in layers for part in parts),
    ]
    neurons = not model.cfg.attn_only
    if neurons:
        names += [f"blocks.{i}.mlp.hook_post" for i in layers]
    logits, kept = model.run_with_cache(tokens, names_filter=names)
    cache = {name: kept[name].double() for name in names}
    logits_bv = logits[:, -1].double()
    read = _Read(model, cache[last][:, -1], pair)
    direction_kd = read.directions(random_directions, seed)
    found_names, kinds, values = [], [], []

    def add(name: str, kind: str, written_bd: Tensor) -> None:
        found_names.append(name)
        kinds.append(kind)
        values.append(torch.einsum("bd,kd->kb", written_bd / read.scale_b1, direction_kd))

    add("embedding", "embedding", cache["blocks.0.hook_resid_pre"][:, -1])
    rows, contrast_d = len(tokens), direction_kd[0]
    sources, by_neuron = [], []
    shape = model.cfg.n_layers, model.cfg.d_model
    W_O, b_O = model.W_O.double(), _bias(model, "b_O", *shape)
    b_out = _bias(model, "b_out", *shape)
    for layer in layers:
        pattern_bhm, v_bmhe, z_bhe = (
            cache[f"blocks.{layer}.attn.hook_pattern"][:, :, -1],
            cache[f"blocks.{layer}.attn.hook_v"],
            cache[f"blocks.{layer}.attn.hook_z"][:, -1],
        )
        heads = z_bhe.shape[1]
        v_bmhe = v_bmhe.repeat_interleave(heads // v_bmhe.shape[2], 2)  # heads may share values
        for head in range(heads):
            add(head_name(layer, head), "head", z_bhe[:, head] @ W_O[layer, head])
        add(f"bias of {attention_name(layer)}", BIAS, b_O[layer].expand(rows, -1))
        read_bmh = torch.einsum("bmhe,he->bmh", v_bmhe, W_O[layer] @ contrast_d)
        sources.append(
            torch.einsum("bhm,bmh->bhm", pattern_bhm, read_bmh) / read.scale_b1[..., None]
        )
        if neurons:
            post_bf, W_out = (
                cache[f"blocks.{layer}.mlp.hook_post"][:, -1],
                model.W_out[layer].double(),
            )
            add(mlp_name(layer), "mlp", post_bf @ W_out)
            add(f"bias of {mlp_name(layer)}", BIAS, b_out[layer].expand(rows, -1))
            by_neuron.append(post_bf * (W_out @ contrast_d) / read.scale_b1)
    found_names.append("bias of the unembedding")
    kinds.append(BIAS)
    values.append(torch.zeros(len(direction_kd), rows, dtype=torch.float64))
    values[-1][0] = read.bias  # random directions have none
    return Attributed(
        names=found_names,
        kinds=kinds,
        component_kbp=torch.stack(values, -1),
        channel_bc=torch.zeros(rows, 0, dtype=torch.float64),
        source_blhm=torch.stack(sources, 1),
        neuron_blf=torch.stack(by_neuron, 1)
        if neurons
        else torch.zeros(rows, len(layers), 0).double(),
        difference_b=logits_bv[:, pair[0]] - logits_bv[:, pair[1]],
        tolerance=TOLERANCE,
    )


def final_norm(model: Any) -> nn.Module:
    """The normalisation before the unembedding; a model without one may have no such module."""
    return dict(model.named_children()).get("ln_final") or nn.Identity()


class _Read:
    """How the contrast reads the last stream (b, d): its direction, the scale and what is added."""

    def __init__(self, model: Any, resid_bd: Tensor, pair: tuple[int, int]):
        kind, final = model.cfg.normalization_type, final_norm(model)
        unembedding_d = (model.W_U[:, pair[0]] - model.W_U[:, pair[1]]).double()
        self.centred = kind is not None and kind.startswith("LN")
        weights = dict(final.named_parameters())
        ends = {name.rpartition(".")[2]: value.double() for name, value in weights.items()}
        weight, bias = (_first(ends, names) for names in (("w", "weight"), ("b", "bias")))
        self._direction_d = unembedding_d if weight is None else unembedding_d * weight
        if self.centred:  # nothing written along the mean is read
            self._direction_d = self._direction_d - self._direction_d.mean()
            resid_bd = resid_bd - resid_bd.mean(-1, keepdim=True)
        square_b1 = resid_bd.pow(2).mean(-1, keepdim=True)
        self.scale_b1 = (
            torch.ones_like(square_b1) if kind is None else (square_b1 + model.cfg.eps).sqrt()
        )
        b_U = _bias(model, "b_U", model.W_U.shape[1])
        self.bias = b_U[pair[0]] - b_U[pair[1]]
        if bias is not None:
            self.bias = self.bias + bias @ unembedding_d

    def directions(self, count: int, seed: int) -> Tensor:
        """(1 + count, d): the contrast's, then random ones of its norm."""
        generator = torch.Generator().manual_seed(seed)
        size = len(self._direction_d)
        noise_kd = torch.randn(count, size, generator=generator, dtype=torch.float64)
        if self.centred:
            noise_kd -= noise_kd.mean(-1, keepdim=True)
        noise_kd = F.normalize(noise_kd, dim=-1) * self._direction_d.norm()
        return torch.cat([self._direction_d[None], noise_kd])


def _bias(model: Any, name: str, *shape: int) -> Tensor:
    """Biases of a name; zeros where the model has none."""
    try:
        return getattr(model, name).double()
    except AttributeError:
        return torch.zeros(*shape, dtype=torch.float64)


def _first(known: dict[str, Tensor], names: tuple[str, ...]) -> Tensor | None:
    return next((known[name] for name in names if name in known), None)
