"""Attention of a model in windows, and what of it the decision depends on.

Letters: r targets, y layouts, l layers, h heads, n query token, m key token, b window, a action, c compared
targets (low, high), k kind of key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dtx.analysis.core.policies import centred, jensen_shannon, softmax
from dtx.dt.context import Context
from dtx.dt.forward import run_from
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.tokens import KINDS, PADDING
from dtx.dt.tokens import NamedTokens as Tokens


@dataclass(frozen=True)
class Attended:
    """Where a model's heads look, and what the decision owes to it.

    An *effect* is the root mean square over layouts of how far the logits at the last state move, as a share
    of their own: the same for a model whose logits are all twice as large, and 0 for a head that looks and
    writes nothing (OV = 0).

    Attributes:
        pattern: (r, y, l, h, n, m) float32.
        even: (c, l, h) effect of attention spread evenly in the place of the head's own.
        moved: (c, l, h) effect of the head's attention at the other of the two targets.
        divergence: Mean over layouts of the divergence, in nats, of the policies of the two targets.
    """

    pattern: np.ndarray
    even: np.ndarray
    moved: np.ndarray
    divergence: float


def attended(
    model: DecisionTransformerModel,
    context: Context,
    shape: tuple[int, int],
    compared: Sequence[int],
) -> Attended:
    """Run windows, then the compared ones with the attention of one head exchanged.

    Args:
        model: Any.
        context: Windows in the order target, layout. shape: How many of each.
        compared: Places of the low and the high target.
    """
    pattern = patterns(model, context, shape)
    rows = np.concatenate([np.arange(shape[1]) + place * shape[1] for place in compared])
    exchanged = _Exchanged(model, context[rows])
    own, layouts = exchanged.logits_ba, shape[1]
    half = len(rows) // 2
    other = np.concatenate([np.arange(half, 2 * half), np.arange(half)])
    even = torch.from_numpy(uniform(context.shape[1])).float()
    policy = softmax(own)
    return Attended(
        pattern=pattern,
        even=_effect(exchanged.run(lambda own: even.expand_as(own)), own, layouts),
        moved=_effect(exchanged.run(lambda own: own[other]), own, layouts),
        divergence=float(jensen_shannon(policy[:half], policy[half:]).mean()),
    )


def _effect(logits_lhba: np.ndarray, own_ba: np.ndarray, layouts: int) -> np.ndarray:
    """Size of the move as a share of the logits' size, (c, l, h); 0 where there are no logits."""

    def size(x: np.ndarray) -> np.ndarray:
        square = (centred(x) ** 2).sum(-1)
        return np.sqrt(square.reshape(*square.shape[:-1], -1, layouts).mean(-1))

    moved, whole = size(logits_lhba - own_ba), size(own_ba)
    return np.moveaxis(np.divide(moved, whole, out=np.zeros_like(moved), where=whole > 0), -1, 0)


class _Exchanged:
    """Runs windows with the attention of one head at a time exchanged."""

    @torch.inference_mode()
    def __init__(self, model: DecisionTransformerModel, context: Context):
        self.model = model
        wanted = ("hook_pattern", "hook_resid_pre")
        logits, self.cache = model.run_with_cache(
            context, names_filter=lambda name: name.endswith(wanted)
        )
        self.logits_ba = logits[:, -1].double().numpy()

    @torch.inference_mode()
    def run(self, new: Any) -> np.ndarray:
        """Logits (l, h, b, a) float64 with each head's pattern as ``new`` makes it of the layer's."""
        windows, heads = len(self.logits_ba), self.model.cfg.n_heads
        head, window = torch.arange(heads).repeat_interleave(windows), torch.arange(windows)
        window = window.repeat(heads)
        row, found = torch.arange(len(head)), []
        for layer in range(self.model.cfg.n_layers):
            name = f"blocks.{layer}.attn.hook_pattern"
            instead = new(self.cache[name])[window, head]

            def put(value: Tensor, hook: Any, instead: Tensor = instead) -> Tensor:
                value = value.clone()
                value[row, head] = instead
                return value

            resid = self.cache[f"blocks.{layer}.hook_resid_pre"][window]
            found.append(run_from(self.model, layer, resid, [(name, put)]).double().numpy())
        return np.stack(found).reshape(len(found), heads, windows, -1)


@torch.inference_mode()
def patterns(
    model: DecisionTransformerModel, context: Context, shape: tuple[int, int]
) -> np.ndarray:
    """Attention of all layers and heads, (r, y, l, h, n, m) float32, in one forward pass."""
    _, cache = model.run_with_cache(
        context, names_filter=lambda name: name.endswith("hook_pattern")
    )
    layers = [cache[f"blocks.{i}.attn.hook_pattern"] for i in range(model.cfg.n_layers)]
    return torch.stack(layers, 1).unflatten(0, shape).numpy()


def uniform(n: int) -> np.ndarray:
    """Attention spread evenly over what may be seen, (n, m)."""
    return np.tril(np.ones((n, n))) / np.arange(1, n + 1)[:, None]


def by_kind(
    pattern: np.ndarray, tokens: Tokens, kinds: Sequence[str] = (*KINDS, PADDING)
) -> np.ndarray:
    """Attention summed over keys of a kind, (..., n, k)."""
    return pattern @ (tokens.kinds[:, None] == np.array(kinds)).astype(pattern.dtype)


def specificity(pattern: np.ndarray, tokens: Tokens) -> np.ndarray:
    """Total variation between attention by kind of key and even attention's, (..., h, n)."""
    even = by_kind(uniform(pattern.shape[-1]), tokens)
    return np.abs(by_kind(pattern, tokens) - even).sum(-1) / 2


def total_variation(pattern: np.ndarray, reference: int) -> np.ndarray:
    """Total variation of each query's attention against that at one target, (r, y, l, h, n)."""
    return np.abs(pattern - pattern[reference]).sum(-1) / 2


def choosing(tokens: Tokens) -> np.ndarray:
    """(n,) bool: tokens that may look at more than themselves: real ones, but not the first."""
    real = tokens.real
    real[np.flatnonzero(real)[0]] = False
    return real
