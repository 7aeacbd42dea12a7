"""Rewrite a model's weights without changing what it computes: folding and centring.

A pre-normalisation transformer has freedoms that mean nothing: LayerNorm's scale and bias can move into
the weights that read its output, and the mean over d of anything written to the residual stream is
subtracted again by the next LayerNorm. Folded and centred weights are the ones to read circuits from.
Every matrix that reads a LayerNorm is folded; in a gated MLP these are two, ``W_gate`` and ``W_in``.

Letters: d model, h head, e head width, f MLP width, a action.
"""

from __future__ import annotations

import enum
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtx.dt.forward import blocks_of
from dtx.dt.layers import MLP, LayerNorm
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.model_config import ModelConfig


class Rewriting(enum.Enum):
    """One rewriting; all but the last leave every logit as it is.

    ``fold_layer_norm``: scale and bias of each LayerNorm go into the matrices that read it.
    ``centre_writing``: whatever is written to the residual stream gets mean 0 over d.
    ``centre_reading``: matrices that read a folded LayerNorm get mean 0 over d, for what they read has.
    ``fold_value_biases``: attention's weights add to 1, so values' biases are a part of the output's.
    ``centre_unembedding``: columns of W_U get mean 0 over actions; logits shift by one number together.
    """

    fold_layer_norm = "fold_layer_norm"
    centre_writing = "centre_writing"
    centre_reading = "centre_reading"
    fold_value_biases = "fold_value_biases"
    centre_unembedding = "centre_unembedding"


EXACT = (
    Rewriting.fold_layer_norm,
    Rewriting.centre_writing,
    Rewriting.centre_reading,
    Rewriting.fold_value_biases,
)
"""The steps that change no logit, in an order in which they can be done."""


class BiasedGatedMLP(MLP):
    """A gated MLP whose two inner products have biases: what a LayerNorm's bias becomes.

    (act(x W_gate + b_gate) * (x W_in + b_linear) + b_in) W_out + b_out.
    """

    def __init__(self, cfg: ModelConfig):
        super().__init__(cfg)
        self.b_gate = nn.Parameter(torch.zeros(cfg.d_mlp))
        self.b_linear = nn.Parameter(torch.zeros(cfg.d_mlp))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., d) to (..., d)."""
        gate = self.act(self.hook_pre(F.linear(x, self.W_gate.T, self.b_gate)))
        linear = self.hook_pre_linear(F.linear(x, self.W_in.T, self.b_linear))
        return F.linear(self.hook_post(gate * linear + self.b_in), self.W_out.T, self.b_out)

    def packed(self, x_Nd: Tensor) -> Tensor:
        """The same for a packed batch."""
        return self(x_Nd)


def processed(
    model: DecisionTransformerModel,
    steps: Sequence[Rewriting] = EXACT,
    dtype: torch.dtype | None = None,
) -> DecisionTransformerModel:
    """A rewritten copy; the model itself stays as it is.

    Args:
        model: Any Decision Transformer, plain or gated; without LayerNorm only the steps that need none
            change anything.
        steps: Done in this order, in float64.
        dtype: Of the copy's weights; None: the model's own.
    """
    twin = copy_of(model, torch.float64)
    with torch.no_grad():
        for step in steps:
            _STEPS[step](twin)
    return twin.to(dtype or model.W_U.dtype).requires_grad_(False)  # folding makes biases anew


def copy_of(model: DecisionTransformerModel, dtype: torch.dtype) -> DecisionTransformerModel:
    """The same model, processed or not, with weights of its own in another number type.

    Hooks stay where they are, with a warning: the copy has none.
    """
    if model.has_hooks:
        warnings.warn("the copy has none of the model's hooks: add them to the copy", stacklevel=3)
    twin = DecisionTransformerModel(replace(model.cfg))  # with switches of its own
    for i, block in enumerate(blocks_of(model)):
        if isinstance(block.mlp, BiasedGatedMLP):
            _give_biases(twin, i)
    twin.setup()
    twin.load_state_dict(model.state_dict())
    return twin.to(dtype).requires_grad_(False).eval()


@dataclass(frozen=True)
class Folded:
    """A model's copies in float64, for callers that read the same weights many times.

    They are those of the weights as they were: whoever changes the weights makes another one. Nothing keeps
    one behind the caller's back.

    Attributes:
        exact: The model. folded: Rewritten by :data:`EXACT`.
    """

    exact: DecisionTransformerModel
    folded: DecisionTransformerModel

    @staticmethod
    def of(model: DecisionTransformerModel) -> Folded:
        """Copy and rewrite a model."""
        made = Folded(copy_of(model, torch.float64), processed(model, dtype=torch.float64))
        for block in (*blocks_of(made.exact), *blocks_of(made.folded)):
            block.attn.lay_flat()
        return made


def _give_biases(model: DecisionTransformerModel, layer: int) -> None:
    """Put a biased gated MLP with the same weights in the place of a gated one."""
    block = blocks_of(model)[layer]
    twin = BiasedGatedMLP(model.cfg).to(block.mlp.W_in.dtype)
    twin.load_state_dict(block.mlp.state_dict(), strict=False)
    block.mlp = twin


def _fold_layer_norm(model: DecisionTransformerModel) -> None:
    if model.cfg.normalization_type is None:
        return
    for i, block in enumerate(blocks_of(model)):
        attn, ln1, ln2 = block.attn, block.ln1, block.ln2
        assert isinstance(ln1, LayerNorm) and isinstance(ln2, LayerNorm)
        for name in "QKV":
            weight_hde, bias_he = getattr(attn, f"W_{name}"), getattr(attn, f"b_{name}")
            bias_he.add_(torch.einsum("d,hde->he", ln1.b, weight_hde))
            weight_hde.mul_(ln1.w[:, None])
        _reset(ln1)
        if block.mlp.gated and not isinstance(block.mlp, BiasedGatedMLP):
            _give_biases(model, i)
        mlp = block.mlp
        if isinstance(mlp, BiasedGatedMLP):
            mlp.b_gate.add_(ln2.b @ mlp.W_gate)
            mlp.b_linear.add_(ln2.b @ mlp.W_in)
            mlp.W_gate.mul_(ln2.w[:, None])
        else:
            mlp.b_in.add_(ln2.b @ mlp.W_in)
        mlp.W_in.mul_(ln2.w[:, None])
        _reset(ln2)
    final = model.ln_final
    assert isinstance(final, LayerNorm)
    model.unembed.b_U.add_(final.b @ model.unembed.W_U)
    model.unembed.W_U.mul_(final.w[:, None])
    _reset(final)
    model.setup()  # a new MLP's hook points get their names


def _reset(norm: LayerNorm) -> None:
    norm.w.fill_(1.0)
    norm.b.zero_()


def _centre_writing(model: DecisionTransformerModel) -> None:
    if model.cfg.normalization_type is None:
        return  # nothing subtracts the mean again
    written = [model.embed.W_A, model.embed.W_time]
    # A convolution's output cannot be centred; no logit needs it.
    if model.cfg.state_encoder == "linear":
        written.append(model.embed.W_S)
    optional = [model.embed.b_S, model.embed.W_R]
    written += [parameter for parameter in optional if parameter is not None]
    if model.cfg.positional_embedding:
        written.append(model.pos_embed.W_pos)
    for block in blocks_of(model):
        written += [block.attn.W_O, block.attn.b_O, block.mlp.W_out, block.mlp.b_out]
    for parameter in written:
        parameter.sub_(parameter.mean(-1, keepdim=True))


def _centre_reading(model: DecisionTransformerModel) -> None:
    if model.cfg.normalization_type is None:
        return
    norms = [m for m in model.modules() if isinstance(m, LayerNorm)]
    if any(bool((norm.w != 1).any() or (norm.b != 0).any()) for norm in norms):
        raise ValueError("fold the LayerNorms first: only a bare one's output has mean 0")
    for block in blocks_of(model):
        attn, mlp = block.attn, block.mlp
        matrices = [attn.W_Q, attn.W_K, attn.W_V, mlp.W_in, *([mlp.W_gate] if mlp.gated else [])]
        for matrix in matrices:
            matrix.sub_(matrix.mean(-2, keepdim=True))
    model.unembed.W_U.sub_(model.unembed.W_U.mean(0, keepdim=True))


def _fold_value_biases(model: DecisionTransformerModel) -> None:
    for block in blocks_of(model):
        attn = block.attn
        attn.b_O.add_(torch.einsum("he,hed->d", attn.b_V, attn.W_O))
        attn.b_V.zero_()


def _centre_unembedding(model: DecisionTransformerModel) -> None:
    model.unembed.W_U.sub_(model.unembed.W_U.mean(1, keepdim=True))
    model.unembed.b_U.sub_(model.unembed.b_U.mean())


_STEPS = {
    Rewriting.fold_layer_norm: _fold_layer_norm,
    Rewriting.centre_writing: _centre_writing,
    Rewriting.centre_reading: _centre_reading,
    Rewriting.fold_value_biases: _fold_value_biases,
    Rewriting.centre_unembedding: _centre_unembedding,
}
