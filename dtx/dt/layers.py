"""Transformer blocks with TransformerLens's hook names and parameter layout.

Shape suffixes: b batch, n token (query), m token (key), t state token, d model, h head, e head width,
f MLP width. ``N`` counts the real tokens of a packed batch, windows one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtx.dt.hook_points import HookPoint
from dtx.dt.hooks import SwitchedPoint, hooked
from dtx.dt.tokens import TokenLayout

EPSILON = 1e-5
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu}


class Widths(Protocol):
    """What a block has to know; :class:`dtx.dt.model.ModelConfig` has it."""

    d_model: int
    n_heads: int
    d_head: int
    d_mlp: int
    act_fn: str
    gated_mlp: bool
    normalization_type: str | None
    use_attn_result: bool
    use_split_qkv_input: bool
    use_hook_mlp_in: bool
    half_products: bool


@dataclass(frozen=True)
class Group:
    """Windows of one length inside a packed batch: ``windows`` of ``tokens`` tokens, ``states`` of them
    state tokens."""

    windows: int
    tokens: int
    states: int


@dataclass(frozen=True)
class Packing:
    """Where the windows lie in a packed batch, which has no padding between them.

    Attributes:
        groups: Windows sorted by length, one group a length.
        state_t: (states of all windows,) position of every state token among the N tokens.
        layout: The order of the tokens of a timestep.
    """

    groups: tuple[Group, ...]
    state_t: Tensor
    layout: TokenLayout


class _HalfProduct(torch.autograd.Function):
    """x W + b with bfloat16 factors and float32 results, backwards too."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        x_half, weight_half = x.bfloat16(), weight.bfloat16()
        ctx.save_for_backward(x_half, weight_half)
        ctx.bias_shape = bias.shape
        return (x_half @ weight_half).float().add_(bias)

    @staticmethod
    def backward(ctx, gradient):
        x_half, weight_half = ctx.saved_tensors
        half = gradient.bfloat16()
        return (
            (half @ weight_half.T).float(),
            (x_half.T @ half).float(),
            gradient.sum_to_size(ctx.bias_shape),
        )


def product(x: Tensor, weight: Tensor, bias: Tensor, half: bool) -> Tensor:
    """x W + b for (N, i) and (i, o); with ``half`` in bfloat16, where sums and results stay float32.

    torch's autocast is no substitute on a CPU: everything between the products turns to bfloat16 as
    well, and the backward pass then took longer than in float32.
    """
    return _HalfProduct.apply(x, weight, bias) if half else torch.addmm(bias, x, weight)


class LayerNorm(nn.Module):
    """Layer normalisation (Ba et al., 2016); ``hook_scale`` is the standard deviation."""

    def __init__(self, width: int):
        super().__init__()
        self.w = nn.Parameter(torch.ones(width))
        self.b = nn.Parameter(torch.zeros(width))
        self.hook_scale = HookPoint()
        self.hook_normalized = HookPoint()

    def forward(self, x: Tensor) -> Tensor:
        """Normalise over the last axis."""
        if not hooked(self.hook_scale):
            return self.hook_normalized(F.layer_norm(x, self.w.shape, self.w, self.b, EPSILON))
        x = x - x.mean(-1, keepdim=True)
        scale = self.hook_scale((x.pow(2).mean(-1, keepdim=True) + EPSILON).sqrt())
        return self.hook_normalized(x / scale * self.w + self.b)


def norm(cfg: Widths) -> nn.Module:
    """The normalisation that the config names: LayerNorm or none."""
    return LayerNorm(cfg.d_model) if cfg.normalization_type == "LN" else nn.Identity()


class SelfAttention(nn.Module):
    """Causal multi-head attention.

    The fused kernel runs unless scores or pattern are hooked; both give the same numbers to rounding.
    """

    hook_q: HookPoint
    hook_k: HookPoint
    hook_v: HookPoint
    hook_z: HookPoint
    hook_attn_scores: HookPoint
    hook_pattern: HookPoint
    hook_result: HookPoint

    def __init__(self, cfg: Widths):
        super().__init__()
        self.cfg = cfg
        h, d, e = cfg.n_heads, cfg.d_model, cfg.d_head
        for name in "QKV":
            setattr(self, f"W_{name}", nn.Parameter(torch.empty(h, d, e)))
            setattr(self, f"b_{name}", nn.Parameter(torch.zeros(h, e)))
        self.W_O = nn.Parameter(torch.empty(h, e, d))
        self.b_O = nn.Parameter(torch.zeros(d))
        for name in ("q", "k", "v", "z", "attn_scores", "pattern"):
            setattr(self, f"hook_{name}", HookPoint())
        self.hook_result = SwitchedPoint("use_attn_result")

    @torch.no_grad()
    def lay_flat(self) -> None:
        """Store W_Q, W_K and W_V so that :meth:`project` multiplies by a view of them, not by a copy.

        Only the strides change: the parameters stay the same objects with the same numbers, so that nothing
        can become stale. What is written into them later (training, loading, hooks on parameters) is used at
        once, and copies keep the strides. Not done while training, where the order in memory is the order in
        which the norm of the gradients is summed.
        """
        for weight_hde in (self.W_Q, self.W_K, self.W_V):
            weight_hde.data = weight_hde.data.transpose(1, 2).contiguous().transpose(1, 2)

    def project(self, x: Tensor, name: str) -> Tensor:
        """Queries, keys or values (..., h, e) of (..., d), or of one input a head (b, n, h, d)."""
        weight_hde, bias_he = getattr(self, f"W_{name}"), getattr(self, f"b_{name}")
        h, d, e = weight_hde.shape
        if x.ndim == 4:
            return torch.einsum("bnhd,hde->bnhe", x, weight_hde) + bias_he
        if not torch.is_grad_enabled():
            # The order in which torch multiplies depends on whether a factor requires a gradient: without
            # this a view of the parameter would give other last bits than a copy of it does.
            weight_hde = weight_hde.detach()
        flat = F.linear(x, weight_hde.transpose(1, 2).reshape(h * e, d), bias_he.reshape(h * e))
        return flat.unflatten(-1, (h, e))

    def output(self, z: Tensor) -> Tensor:
        """The sum of all heads' outputs (..., d), with the bias, of their z (..., h, e)."""
        return F.linear(z.flatten(-2), self.W_O.flatten(0, 1).T, self.b_O)

    def forward(self, query_bnd: Tensor, key_bnd: Tensor, value_bnd: Tensor) -> Tensor:
        """Attend over padded windows (b, n, d); inputs may also be one a head (b, n, h, d)."""
        q_bnhe = self.hook_q(self.project(query_bnd, "Q"))
        k_bnhe = self.hook_k(self.project(key_bnd, "K"))
        v_bnhe = self.hook_v(self.project(value_bnd, "V"))
        return self.summed(self._attend(q_bnhe, k_bnhe, v_bnhe))

    def summed(self, z_bnhe: Tensor) -> Tensor:
        """The sum of all heads' outputs (b, n, d), with the bias and all hooks, of their z (b, n, h, e)."""
        z_bnhe = self.hook_z(z_bnhe)
        if not self.cfg.use_attn_result:
            return self.output(z_bnhe)
        result_bnhd = self.hook_result(torch.einsum("bnhe,hed->bnhd", z_bnhe, self.W_O))
        return result_bnhd.sum(2) + self.b_O

    def _attend(self, q_bnhe: Tensor, k_bnhe: Tensor, v_bnhe: Tensor) -> Tensor:
        if not hooked(self.hook_attn_scores, self.hook_pattern):
            q, k, v = (x.transpose(1, 2) for x in (q_bnhe, k_bnhe, v_bnhe))
            return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
        n = q_bnhe.shape[1]
        scores_bhnm = torch.einsum("bnhe,bmhe->bhnm", q_bnhe, k_bnhe) / math.sqrt(self.cfg.d_head)
        future_nm = torch.ones(n, n, dtype=torch.bool, device=scores_bhnm.device).triu(1)
        scores_bhnm = self.hook_attn_scores(scores_bhnm.masked_fill(future_nm, -torch.inf))
        pattern_bhnm = self.hook_pattern(scores_bhnm.softmax(-1))
        return torch.einsum("bhnm,bmhe->bnhe", pattern_bhnm, v_bnhe)

    def last(self, x_bnd: Tensor) -> Tensor:
        """The output at the last token alone (b, 1, d): it sees all the others."""
        q_bhe = self.project(x_bnd[:, -1:], "Q").transpose(1, 2)
        k, v = (self.project(x_bnd, name).transpose(1, 2) for name in "KV")
        return self.output(F.scaled_dot_product_attention(q_bhe, k, v).transpose(1, 2))

    def packed(self, x_Nd: Tensor, packing: Packing, states_only: bool) -> Tensor:
        """Attend over a packed batch; with ``states_only`` just the state tokens ask and are returned."""
        if states_only:
            (q,), (k, v) = self._fused(x_Nd[packing.state_t], "Q"), self._fused(x_Nd, "KV")
        else:
            q, k, v = self._fused(x_Nd, "QKV")
        tokens = [group.windows * group.tokens for group in packing.groups]
        asking = (
            [group.windows * group.states for group in packing.groups] if states_only else tokens
        )
        parts = []
        # split, not slices: the backward pass of a slice fills a tensor of the whole batch.
        for group, q_g, k_g, v_g in zip(
            packing.groups, q.split(asking), k.split(tokens), v.split(tokens), strict=True
        ):
            mask = _state_mask(group, packing.layout) if states_only else None
            z_bhne = F.scaled_dot_product_attention(
                *(x.unflatten(0, (group.windows, -1)).transpose(1, 2) for x in (q_g, k_g, v_g)),
                attn_mask=mask,
                is_causal=mask is None,
            )
            parts.append(z_bhne.transpose(1, 2).flatten(0, 1))
        z_Nf = (torch.cat(parts) if len(parts) > 1 else parts[0]).flatten(1)
        return product(z_Nf, self.W_O.flatten(0, 1), self.b_O, self.cfg.half_products)

    def _fused(self, x_Nd: Tensor, names: str) -> list[Tensor]:
        """Several projections (N, h, e) by one product."""
        weights = [getattr(self, f"W_{name}").transpose(0, 1).flatten(1) for name in names]
        biases = [getattr(self, f"b_{name}").flatten() for name in names]
        fused = product(x_Nd, torch.cat(weights, 1), torch.cat(biases), self.cfg.half_products)
        return [part.unflatten(1, self.b_Q.shape) for part in fused.split(weights[0].shape[1], 1)]


def _state_mask(group: Group, layout: TokenLayout) -> Tensor:
    """(t, m): which tokens the state token of each step sees, those that are not later."""
    place_t = torch.arange(group.states) * layout.per_step + layout.first_state
    return torch.arange(group.tokens)[None, :] <= place_t[:, None]


class MLP(nn.Module):
    """One hidden layer, plain or gated: (act(x W_gate) * (x W_in) + b_in) W_out + b_out."""

    def __init__(self, cfg: Widths):
        super().__init__()
        self.cfg = cfg
        self.act = ACTIVATIONS[cfg.act_fn]
        self.gated = cfg.gated_mlp
        self.W_in = nn.Parameter(torch.empty(cfg.d_model, cfg.d_mlp))
        self.b_in = nn.Parameter(torch.zeros(cfg.d_mlp))
        self.W_out = nn.Parameter(torch.empty(cfg.d_mlp, cfg.d_model))
        self.b_out = nn.Parameter(torch.zeros(cfg.d_model))
        if self.gated:
            self.W_gate = nn.Parameter(torch.empty(cfg.d_model, cfg.d_mlp))
            self.hook_pre_linear = HookPoint()
        self.hook_pre = HookPoint()
        self.hook_post = HookPoint()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., d) to (..., d)."""
        if self.gated:
            gate = self.act(self.hook_pre(F.linear(x, self.W_gate.T)))
            post = gate * self.hook_pre_linear(F.linear(x, self.W_in.T)) + self.b_in
        else:
            post = self.act(self.hook_pre(F.linear(x, self.W_in.T, self.b_in)))
        return F.linear(self.hook_post(post), self.W_out.T, self.b_out)

    def packed(self, x_Nd: Tensor) -> Tensor:
        """The same for a packed batch, in the number type of training, without hooks."""
        half = self.cfg.half_products
        if self.gated:
            weights, zero = torch.cat([self.W_gate, self.W_in], 1), self.b_in.new_zeros(())
            gate, linear = product(x_Nd, weights, zero, half).chunk(2, 1)
            post = self.act(gate) * linear + self.b_in
        else:
            post = self.act(product(x_Nd, self.W_in, self.b_in, half))
        return product(post, self.W_out, self.b_out, half)


class Block(nn.Module):
    """A pre-normalisation block: x + attention(norm(x)), then x + MLP(norm(x))."""

    hook_resid_pre: HookPoint
    hook_resid_mid: HookPoint
    hook_resid_post: HookPoint
    hook_attn_out: HookPoint
    hook_mlp_in: HookPoint
    hook_mlp_out: HookPoint
    hook_q_input: HookPoint
    hook_k_input: HookPoint
    hook_v_input: HookPoint

    def __init__(self, cfg: Widths):
        super().__init__()
        self.cfg = cfg
        self.ln1, self.attn = norm(cfg), SelfAttention(cfg)
        self.ln2, self.mlp = norm(cfg), MLP(cfg)
        for name in ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"):
            setattr(self, f"hook_{name}", HookPoint())
        self.hook_mlp_in = SwitchedPoint("use_hook_mlp_in")
        for name in ("q_input", "k_input", "v_input"):
            setattr(self, f"hook_{name}", SwitchedPoint("use_split_qkv_input"))

    def forward(self, resid_bnd: Tensor) -> Tensor:
        """Padded windows (b, n, d), every activation hooked."""
        resid_bnd = self.hook_resid_pre(resid_bnd)
        return self.after(resid_bnd, self.attn(*self.attended(resid_bnd)))

    def attended(self, resid_bnd: Tensor) -> list[Tensor]:
        """What queries, keys and values are made of: (b, n, d) each, or (b, n, h, d), one a head."""
        if not self.cfg.use_split_qkv_input:
            return [self.ln1(resid_bnd)] * 3
        split = resid_bnd.unsqueeze(2).expand(-1, -1, self.cfg.n_heads, -1)
        points = (self.hook_q_input, self.hook_k_input, self.hook_v_input)
        return [self.ln1(point(split.clone())) for point in points]

    def after(self, resid_bnd: Tensor, attention_bnd: Tensor) -> Tensor:
        """The block's output, of the stream before it and of what attention gave."""
        resid_bnd = self.hook_resid_mid(resid_bnd + self.hook_attn_out(attention_bnd))
        mlp_in = self.hook_mlp_in(resid_bnd.clone()) if self.cfg.use_hook_mlp_in else resid_bnd
        return self.hook_resid_post(resid_bnd + self.hook_mlp_out(self.mlp(self.ln2(mlp_in))))

    def last(self, resid_bnd: Tensor) -> Tensor:
        """The block's output at the last token alone (b, 1, d), without hooks."""
        resid_b1d = resid_bnd[:, -1:] + self.attn.last(self.ln1(resid_bnd))
        return resid_b1d + self.mlp(self.ln2(resid_b1d))

    def packed(self, resid_Nd: Tensor, packing: Packing, states_only: bool) -> Tensor:
        """A packed batch; with ``states_only`` (the last block) only the state tokens come out."""
        attended = self.attn.packed(self.ln1(resid_Nd), packing, states_only)
        resid = (resid_Nd[packing.state_t] if states_only else resid_Nd) + attended
        return resid + self.mlp.packed(self.ln2(resid))
