"""Edges among heads, MLPs, features and the error: what each carries of an edit's effect.

An edge is patched alone: what its sender changes is read by its receiver and by nothing else; a feature that
reads it changes, and what follows from that is computed anew. Attribution is the first-order estimate of the
same number (gradients at both ends); edges above a threshold are patched exactly.

Shape suffixes: b pair, n token, d activation, m model width, f feature, j node (a few features, the others
together, the error), r row of a forward pass.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.feature_effects.patches import Patches
from dtx.dt.forward import blocks_of
from dtx.dt.paths import (
    Receiver,
    Sender,
    input_hook,
    output_hooks,
    outputs,
    receivers,
    split_inputs,
)

ERROR, OTHERS = "error", "other features"
COLUMNS = ["edit", "reward_to_go", "sender", "receiver", "attribution", "exact", "low", "high", "n"]


class Nodes:
    """The nodes of one condition that stand between senders and receivers.

    Args:
        patches: Pairs. rows: Of the condition. count: Features with a node of their own, the strongest.
    """

    def __init__(self, patches: Patches, rows: Tensor, count: int):
        self.patches, self.rows = patches, rows
        score_f = patches.attribution()[rows].mean(0).abs()
        own = score_f.argsort(descending=True, stable=True)[:count]
        self.features = own[score_f[own] > 0]
        self.names = [f"F{int(f)}" for f in self.features] + [OTHERS, ERROR]

    def split(self, change_bnf: Tensor, error_bnd: Tensor) -> Tensor:
        """What each node adds (j, b, n, d), of changes of all features and of the error."""
        direction_fd = self.patches.directions.direction_fd
        each = [change_bnf[..., f, None] * direction_fd[f] for f in self.features.tolist()]
        rest = change_bnf.clone()
        rest[..., self.features] = 0
        return torch.stack([*each, rest @ direction_fd, error_bnd])

    @property
    def own(self) -> Tensor:
        """What each node changes between the runs (j, b, n, d)."""
        return self.split(self.patches.change_bnf[self.rows], self.patches.error_bnd[self.rows])


def edges(patches: Patches, count: int, threshold: float) -> pd.DataFrame:
    """All edges from senders to nodes and from nodes to receivers, of every condition.

    Args:
        patches: Pairs. count: Features with a node of their own.
        threshold: Share of the span from which on an edge is patched exactly, by its attribution.

    Returns:
        :data:`COLUMNS`: attribution and exact are shares of the difference between the runs, means over the
        condition's pairs, of which exact has the ends of an interval; it is missing below the threshold.
    """
    from dtx.statistics import mean_estimate

    lines = []
    for (edit, target), rows in patches.conditions():
        nodes = Nodes(patches, rows, count)
        variant = patches.table["variant"].to_numpy()[rows.numpy()]
        for sender, receiver, guess_b, exact in [*_into(nodes), *_out_of(nodes)]:
            line: dict[str, Any] = {
                "edit": edit, "reward_to_go": target, "sender": sender, "receiver": receiver,
                "attribution": float(guess_b.detach().mean()),
                "exact": np.nan, "low": np.nan, "high": np.nan, "n": 0,
            }  # fmt: skip
            if abs(line["attribution"]) >= threshold:
                estimate = mean_estimate(exact().double().numpy(), clusters=variant, of="layouts")
                line |= {
                    "exact": estimate.value,
                    "low": estimate.low,
                    "high": estimate.high,
                    "n": estimate.n,
                }
            lines.append(line)
    return pd.DataFrame(lines, columns=COLUMNS)


Found = tuple[str, str, Tensor, Callable[[], Tensor]]
"""Sender, receiver, attribution (b,), and what computes the exact share (b,)."""


def _into(nodes: Nodes) -> Iterator[Found]:
    """From components to nodes, where the activation is the stream or what an MLP makes of it."""
    patches, rows = nodes.patches, nodes.rows
    read = _Reading(patches, rows)
    if not read.possible:
        return
    gradient = patches.gradient_bnd[rows]
    for name, change_bnm in read.senders():
        slopes = [read.slope(end, change_bnm) for end in (0, 1)]
        slope = [(a + b) / 2 for a, b in zip(*slopes, strict=True)]
        guess_jb = (nodes.split(*slope) * gradient).sum((2, 3)) / patches.span_b[rows]

        split = functools.cache(lambda change=change_bnm: nodes.split(*read.difference(change)))
        for node, to in enumerate(nodes.names):
            yield (
                name,
                to,
                guess_jb[node],
                lambda n=node, split=split: patches.rho(rows, split()[n]),
            )


class _Reading:
    """How the activation follows from what components write, in the base (end 0) and source run (1)."""

    def __init__(self, patches: Patches, rows: Tensor):
        self.patches, self.rows, self.site = patches, rows, patches.site
        self.possible = self.site.is_stream or self.site.part in ("hook_mlp_out", "mlp.hook_post")
        mid = f"blocks.{self.site.layer}.hook_resid_mid"
        names = {*output_hooks(patches.model.cfg), mid}
        self._caches = []
        for run in (patches.base, patches.source):
            with torch.no_grad():
                _, cache = patches.model.run_with_cache(
                    run.context[rows], names_filter=names.__contains__
                )
            self._caches.append(dict(cache))
        self._mid = [cache[mid] for cache in self._caches]

    def senders(self) -> Iterator[tuple[str, Tensor]]:
        """Components that write before the activation is read, and what each changes (b, n, m)."""
        layer, part = self.site.writers_to
        stop = 2 * layer + (1 if part == "attention" else 2)
        wrote: list[dict[Sender, Tensor]] = [
            outputs(self.patches.model, cache) for cache in self._caches
        ]
        for sender, base in wrote[0].items():
            if sender.step < stop:
                yield sender.name, wrote[1][sender] - base

    def activation(self, end: int, change_bnm: Tensor) -> Tensor:
        """The activation (b, n, d) of a run whose stream is changed before it."""
        run = (self.patches.base, self.patches.source)[end]
        if self.site.is_stream:
            return run.x_bnd[self.rows] + change_bnm
        block = blocks_of(self.patches.model)[self.site.layer]
        kept: list[Tensor] = []
        handle = block.mlp.hook_post.register_forward_hook(lambda *call: kept.append(call[2]))
        try:
            out = block.mlp(block.ln2(self._mid[end] + change_bnm))
        finally:
            handle.remove()
        return out if self.site.part == "hook_mlp_out" else kept[0]

    def _parts(self, end: int, change_bnm: Tensor) -> tuple[Tensor, Tensor]:
        x_bnd = self.activation(end, change_bnm)
        added_bnf = self.patches.added(x_bnd)
        return added_bnf, x_bnd - added_bnf @ self.patches.directions.direction_fd

    def slope(self, end: int, change_bnm: Tensor) -> tuple[Tensor, Tensor]:
        """First-order change of features (b, n, f) and error (b, n, d) by a change of the stream.

        Forward mode by two passes backward: the backward pass is linear in the weights it is given, so that
        its own derivative by these, along the change, is what the change does.
        """
        zero = torch.zeros_like(change_bnm).requires_grad_()
        with torch.enable_grad():
            parts = self._parts(end, zero)
            weights = [torch.zeros_like(part).requires_grad_() for part in parts]
            (back_bnm,) = torch.autograd.grad(parts, zero, weights, create_graph=True)
            slopes = torch.autograd.grad(back_bnm, weights, change_bnm)
        return slopes[0], slopes[1]

    @torch.no_grad()
    def difference(self, change_bnm: Tensor) -> tuple[Tensor, Tensor]:
        """The exact change of both in the base run."""
        before, after = (
            self._parts(0, change) for change in (torch.zeros_like(change_bnm), change_bnm)
        )
        return after[0] - before[0], after[1] - before[1]


def _out_of(nodes: Nodes) -> Iterator[Found]:
    """From nodes to components that read the stream behind the activation."""
    patches, rows = nodes.patches, nodes.rows
    added_jbnm = patches.site.written(patches.model, nodes.own)
    places = _receivers(patches)
    if (
        patches.site.part == "hook_resid_post"
        and patches.site.layer == patches.model.cfg.n_layers - 1
    ):
        # Only the logits read this, and whatever is changed is read by them.
        for node, sender in enumerate(nodes.names):
            added = nodes.own[node]
            guess_b = (added * patches.gradient_bnd[rows]).sum((1, 2)) / patches.span_b[rows]
            yield sender, "logits", guess_b, lambda added=added: patches.rho(rows, added)
        return
    with split_inputs(patches.model):
        ends = [
            _input_gradients(patches, run, rows, places) for run in (patches.base, patches.source)
        ]
    for name, inputs in places.items():
        gradient_bnm = sum((ends[0][r] + ends[1][r]) / 2 for r in inputs)
        assert isinstance(gradient_bnm, Tensor)
        guess_jb = (added_jbnm * gradient_bnm).sum((2, 3)) / patches.span_b[rows]
        for node, sender in enumerate(nodes.names):

            def exact(added=added_jbnm[node], inputs=inputs) -> Tensor:
                return _patched(patches, rows, inputs, added)

            yield sender, name, guess_jb[node], exact


def _receivers(patches: Patches) -> dict[str, list[Receiver]]:
    """Inputs of each component behind the activation, a head's three together."""
    layer, part = patches.site.readers_from
    start = 2 * layer + (1 if part == "attention" else 2)
    found: dict[str, list[Receiver]] = {}
    for receiver in receivers(patches.model.cfg):
        if receiver.step >= start:
            found.setdefault(receiver.name, []).append(receiver)
    return found


def _input_gradients(
    patches: Patches, run: Any, rows: Tensor, places: dict[str, list[Receiver]]
) -> dict[Receiver, Tensor]:
    """Gradient of LD by each receiver's input (b, n, m), directly read."""
    cfg, kept = patches.model.cfg, {}
    names = dict.fromkeys(input_hook(cfg, r) for inputs in places.values() for r in inputs)

    def keep(value: Tensor, hook: Any) -> None:
        kept[hook.name] = value

    x_bnd = run.x_bnd[rows].clone().requires_grad_()
    with torch.enable_grad():
        logits = run.replaced(rows, x_bnd, [(name, keep) for name in names])
        difference = patches.batch.difference_of(logits, patches.pair_b[rows]).sum()
    gradients = torch.autograd.grad(difference, [kept[n] for n in names], allow_unused=True)
    by_name = dict(zip(names, gradients, strict=True))
    found = {}
    for receiver in (r for inputs in places.values() for r in inputs):
        name = input_hook(cfg, receiver)
        gradient = by_name[name]
        if gradient is None:
            gradient = torch.zeros_like(kept[name])
        found[receiver] = gradient if receiver.head is None else gradient[:, :, receiver.head]
    return found


@torch.no_grad()
def _patched(patches: Patches, rows: Tensor, inputs: list[Receiver], added_bnm: Tensor) -> Tensor:
    """Share (b,) when a receiver alone reads an addition to the stream."""

    def adds(receiver: Receiver) -> Callable[[Tensor, Any], Tensor]:
        def add(value: Tensor, hook: Any) -> Tensor:
            value = value.clone()
            (value if receiver.head is None else value[:, :, receiver.head]).add_(added_bnm)
            return value

        return add

    hooks = [(input_hook(patches.model.cfg, r), adds(r)) for r in inputs]
    with split_inputs(patches.model):
        logits = patches.base.replaced(rows, patches.base.x_bnd[rows], hooks)
    return patches.share(rows, logits)
