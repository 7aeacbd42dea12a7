"""The sweep of activation patching: many patches on the batch axis, from the patched node on.

A patch of the stream or of what is added to it changes one token until the next layer, and nothing at all
where both runs agree; patches inside attention run their whole block.

Shape suffixes: b rows of a forward pass (one patch of one pair each), p pairs, n tokens, d model, h head.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.core.patching import PairRuns, RestOfRun, Stopped, never
from dtx.analysis.core.patching_spec import (
    DONORS,
    EDIT,
    NULL,
    Direction,
    Node,
    hook_of,
    name_of,
)
from dtx.dt.forward import run_from
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.tokens import KINDS
from dtx.pairs.pair_set import PairBatch

EDITED, LAST, OTHERS = "edited", "last", "others"
BOTH, NOT_EDITED, NOT_LAST = "edited and last", "all but edited", "all but last"
MEDIATION = (EDITED, LAST, OTHERS, BOTH, NOT_EDITED, NOT_LAST)
"""Tokens of the stream that are patched together: those that the edit changed (but for the last), the last
state, all third tokens, and the complement of each."""
ROUNDING = 1e-6
"""A node is the same in both runs up to this share of its largest number."""


class NodeSweep:
    """The patches of one batch of pairs; torch's threads stay as the caller has them.

    Attributes:
        runs: Both runs of each pair.
    """

    def __init__(
        self,
        model: DecisionTransformerModel,
        batch: PairBatch,
        gap: float,
        direction: Direction,
        nodes: Collection[Node],
        at_once: int,
        stop: Callable[[], bool] = never,
    ):
        """Run both sides.

        Args:
            model: Any.
            batch: Pairs of one shape.
            gap: Smallest difference between the runs at which rho means something.
            direction: What is patched into what.
            nodes: What is patched.
            at_once: Rows of a forward pass, at most.
            stop: Asked before each forward pass: whether to compute no more.
        """
        self.model, self.batch = model, batch
        self.nodes, self.at_once, self.stop = tuple(nodes), at_once, stop
        self.runs = PairRuns(model, batch, direction, gap, self._wanted())

    def _wanted(self) -> set[str]:
        """Hooks whose activations of both runs are needed."""
        nodes = {*self.nodes, Node.resid_pre, Node.resid_mid, Node.resid_post}
        return self._hooks(nodes) | RestOfRun.needed(self.model.cfg.n_layers)

    def _hooks(self, nodes: Collection[Node]) -> set[str]:
        layers = range(self.model.cfg.n_layers)
        return {hook_of(layer, node.value) for layer in layers for node in nodes}

    @cached_property
    def rest(self) -> RestOfRun:
        """Goes on from any layer of the runs that are patched."""
        return RestOfRun(self.model, self.runs)

    def patches(self) -> pd.DataFrame:
        """Every node at every token of every pair: a row each, with ``change`` of LD and ``rho``."""
        return pd.concat([table for _, table in self.parts()], ignore_index=True)

    @torch.inference_mode()
    def parts(self) -> Iterator[tuple[float, pd.DataFrame]]:
        """The rows of :meth:`patches` as they are computed: (share done, the rows of one more node).

        Ends early, with a share under 1, when ``stop`` says so.
        """
        every = list(self._nodes())
        for done, (layer, node, head) in enumerate(every, 1):
            try:
                table = self._node(layer, node, head)
            except Stopped:
                return
            yield done / len(every), table

    def _nodes(self) -> Iterator[tuple[int, Node, int | None]]:
        for layer in range(self.model.cfg.n_layers):
            for node in self.nodes:
                heads = range(self.model.cfg.n_heads) if node.each_head else [None]
                yield from ((layer, node, head) for head in heads)

    def _node(self, layer: int, node: Node, head: int | None) -> pd.DataFrame:
        """Patch one node at every token of every pair."""
        p, n = self.batch.changed.shape
        row, token = np.divmod(np.arange(p * n), n)
        mask = torch.zeros(p * n, n, dtype=torch.bool)
        mask[torch.arange(p * n), torch.from_numpy(token)] = True
        if node.inside_attention:
            ld = self._patched(layer, node, head, row, mask)
        else:
            ld = self._added(layer, node, head)
        table = self.runs.result(row, ld)
        table["layer"], table["node"] = layer, node.value
        table["head"] = -1 if head is None else head
        table["name"] = name_of(layer, node.value, head)
        table["position"], table["token"] = token, np.array(self.batch.names)[token]
        return table

    def _added(self, layer: int, node: Node, head: int | None) -> np.ndarray:
        """LD (p * n,) with the stream, or what a component adds to it, patched at each token of each pair."""
        name = hook_of(layer, node.value)
        source, base = self.runs.source[name], self.runs.base[name]
        if head is not None:
            source, base = source[:, :, head], base[:, :, head]
        change = source - base
        scale = source.abs().max() + base.abs().max()
        live_pn = change.abs().amax(-1) > ROUNDING * scale
        live_pn |= torch.from_numpy(self.batch.kind(NULL))[:, None]  # a control only if it is run
        n = live_pn.shape[1]
        if node is not Node.resid_pre and layer == self.rest.last:
            live_pn[:, :-1] = False  # read at the last token alone
        block = self.rest.blocks[layer]
        if head is not None:
            change = change @ block.attn.W_O[head]
        ld = np.repeat(self.runs.base_ld[:, None], n, 1)
        for m in range(n):
            for row in torch.nonzero(live_pn[:, m]).flatten().split(self.at_once):
                if not len(row):
                    continue
                self._go_on()
                resid_b1d, to = change[row, m : m + 1], layer + 1
                if node is Node.resid_pre:
                    resid_b1d, to = source[row, m : m + 1], layer
                elif node is Node.resid_post:
                    resid_b1d = source[row, m : m + 1]
                elif node is Node.mlp_out:
                    post = self.runs.base[f"blocks.{layer}.hook_resid_post"]
                    resid_b1d = post[row, m : m + 1] + resid_b1d
                else:
                    mid = self.runs.base[f"blocks.{layer}.hook_resid_mid"][row, m : m + 1]
                    mid = mid + resid_b1d
                    resid_b1d = mid + block.mlp(block.ln2(mid))
                ld[row.numpy(), m] = self.rest.ld(to, row, m, resid_b1d).double().numpy()
        return ld.ravel()

    @torch.inference_mode()
    def sets(self) -> pd.DataFrame:
        """Embedded tokens patched together: everything, nothing, unchanged, a kind, a kind but one."""
        row = np.flatnonzero(~np.isin(self.batch.table["kind"], DONORS))
        names, changed = self.batch.names, self.batch.changed[torch.from_numpy(row)]
        sets: list[tuple[str, Tensor, float]] = [
            ("everything", torch.ones_like(changed), 1.0),
            ("nothing", torch.zeros_like(changed), 0.0),
            ("unchanged", ~changed, 0.0),
        ]
        for kind in KINDS:
            of_kind = torch.from_numpy(self.batch.clean.layout.is_kind(len(names), kind))
            sets.append((kind, of_kind.expand_as(changed), np.nan))
            for place in torch.nonzero(of_kind & changed.any(0)).flatten().tolist():
                others = of_kind.clone()
                others[place] = False
                sets.append((f"{kind} without {names[place]}", others.expand_as(changed), np.nan))
        tables = []
        for name, mask, expected in sets:
            table = self.runs.result(row, self._patched(0, Node.resid_pre, None, row, mask))
            tables.append(table.assign(set=name, expected=expected))
        return pd.concat(tables, ignore_index=True)

    @torch.inference_mode()
    def mediation(self) -> pd.DataFrame:
        """The stream before each layer, patched at several tokens together; of the edits' pairs.

        A row a pair, layer and set of :data:`MEDIATION`, with ``change`` of LD and ``rho``.
        """
        row = np.flatnonzero(self.batch.kind(EDIT))
        edited = self.batch.changed[torch.from_numpy(row)].clone()
        edited[:, -1] = False
        last = torch.zeros_like(edited)
        last[:, -1] = True
        sets = dict(
            zip(
                MEDIATION,
                (edited, last, ~(edited | last), edited | last, ~edited, ~last),
                strict=True,
            )
        )
        tables = []
        for layer in range(self.model.cfg.n_layers):
            for name, mask in sets.items():
                ld = self._patched(layer, Node.resid_pre, None, row, mask)
                tables.append(self.runs.result(row, ld).assign(layer=layer, set=name))
        return pd.concat(tables, ignore_index=True)

    def _patched(
        self, layer: int, node: Node, head: int | None, row: np.ndarray, mask: Tensor
    ) -> np.ndarray:
        """LD (b,) of pairs ``row`` (b,) with a node patched at the tokens ``mask`` (b, n)."""
        parts = [np.zeros(0)]
        for begin in range(0, len(row), self.at_once):
            self._go_on()
            which = torch.from_numpy(row[begin : begin + self.at_once])
            logits = self._forward(layer, node, head, which, mask[begin : begin + self.at_once])
            pos, neg = self.batch.positive[which], self.batch.negative[which]
            place = torch.arange(len(which))
            parts.append((logits[place, pos] - logits[place, neg]).double().numpy())
        return np.concatenate(parts)

    def _go_on(self) -> None:
        if self.stop():
            raise Stopped

    def _forward(
        self, layer: int, node: Node, head: int | None, which: Tensor, mask_bn: Tensor
    ) -> Tensor:
        """Logits (b, a) at the last token; what lies before the layer is the base's and not computed."""
        model, name = self.model, hook_of(layer, node.value)
        source = self.runs.source[name][which]
        resid_bnd = self.runs.base[f"blocks.{layer}.hook_resid_pre"][which]

        patch = self.patch(node, head, source, mask_bn)
        if node is Node.resid_pre:
            return run_from(model, layer, patch(resid_bnd))
        return run_from(model, layer, resid_bnd, [(name, patch)])

    @staticmethod
    def patch(
        node: Node, head: int | None, source: Tensor, mask_bn: Tensor
    ) -> Callable[..., Tensor]:
        """A hook that puts ``source`` in a node's place, at the tokens ``mask`` (b, n)."""

        def put(value: Tensor, hook: Any = None) -> Tensor:
            if head is None:
                return torch.where(mask_bn.unsqueeze(-1), source, value)
            value = value.clone()
            axis = 1 if node is Node.pattern else 2
            old, new = value.select(axis, head), source.select(axis, head)
            old.copy_(torch.where(mask_bn.unsqueeze(-1), new, old))
            return value

        return put
