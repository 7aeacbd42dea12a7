"""Every edge at every token, one at a time, in large batches: what an edge cannot change is not computed.

Computing starts at the receiver. An edge at token m leaves all earlier tokens alone, and one into a query or
an MLP leaves all others alone until the next layer. :func:`dtx.dt.paths.patched` defines what comes out.

Shape suffixes: p pairs, r pairs that an edge changes, b rows of a forward pass (a pair and a head), n tokens
(queries), m tokens (keys), w patched tokens, c changed tokens, d model, h head, e head width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.core.patching import PairRuns, RestOfRun, Stopped, never
from dtx.analysis.core.patching_spec import NULL
from dtx.analysis.path_patching.spec import TOGETHER
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.paths import Edge, Receiver, Sender, edges, matters, outputs, senders

ROUNDING = 1e-6
"""A sender agrees with itself in both runs up to this share of the largest number in the stream."""
POINTS = ("resid_pre", "resid_mid", "resid_post", "mlp_out")
PARTS = ("q", "k", "v", "z")


def wanted(layers: int) -> set[str]:
    """The activations of both runs that a sweep needs."""
    names = [f"hook_{point}" for point in POINTS] + [f"attn.hook_{part}" for part in PARTS]
    return {f"blocks.{layer}.{name}" for layer in range(layers) for name in names}


class EdgeSweep:
    """Changes of LD by every edge; torch's threads stay as the caller has them.

    Attributes:
        edges: All of the model.
        change: (edges, n + 1, p): LD with the edge patched at a token minus LD of the base run; the last
            column has all tokens patched together.
        computed: Patches whose forward pass was needed; the others change nothing.
    """

    def __init__(
        self,
        model: DecisionTransformerModel,
        runs: PairRuns,
        which: np.ndarray,
        rows: int,
        tokens: bool,
        stop: Callable[[], bool] = never,
    ):
        """Prepare it; :meth:`run` or :meth:`parts` computes.

        Args:
            model: Of the runs.
            runs: With activations :func:`wanted`.
            which: (p,) bool, pairs that are patched; nothing changes in the others.
            rows: Of a forward pass, at most.
            tokens: Also each token alone, not just all together.
            stop: Asked between forward passes: whether to compute no more.
        """
        cfg = model.cfg
        self.model, self.batch, self.runs, self.rows = model, runs.batch, runs, rows
        self.which, self.tokens, self.stop = torch.from_numpy(which), tokens, stop
        self.last = cfg.n_layers - 1
        self.rest = RestOfRun(model, runs)
        self.blocks = self.rest.blocks
        self.n = runs.batch.changed.shape[1]
        self.edges = edges(cfg)
        self.index = {edge: i for i, edge in enumerate(self.edges)}
        self.change = np.zeros((len(self.edges), self.n + 1, len(runs.batch)))
        self.computed = 0
        self._columns = {
            "sender": np.array([edge.sender.name for edge in self.edges]),
            "receiver": np.array([edge.receiver.name for edge in self.edges]),
            "input": np.array([edge.receiver.input for edge in self.edges]),
        }
        self.scores = [self._scores(layer) for layer in range(cfg.n_layers)]

    def run(self, advance: Callable[[int], None] = lambda _: None) -> EdgeSweep:
        """Compute everything; ``advance`` is called with the number of edges that were just done."""
        for _, done in self.parts():
            advance(len(done))
        return self

    @torch.inference_mode()
    def parts(self) -> Iterator[tuple[float, list[int]]]:
        """Fill :attr:`change` sender by sender: (share of the edges done, places of the edges just done).

        Ends early, with a share under 1, when ``stop`` says so.
        """
        model, done = self.model, 0
        base, source = (outputs(model, cache) for cache in (self.runs.base, self.runs.source))
        for sender in senders(model.cfg):
            delta_pnd = source[sender] - base[sender]
            scale = base[sender].abs().max() + source[sender].abs().max()
            live_pn = delta_pnd.abs().amax(-1) > ROUNDING * scale
            try:
                self._sender(sender, delta_pnd, live_pn, self.tokens)
            except Stopped:
                return
            mine = [i for i, edge in enumerate(self.edges) if edge.sender == sender]
            done += len(mine)
            if mine:
                yield done / len(self.edges), mine

    def table(self, which: Sequence[int]) -> pd.DataFrame:
        """Changes by some edges, of the pairs that are patched: a row an edge, place and pair.

        Returns:
            :meth:`~dtx.analysis.core.patching.PairRuns.result` with ``sender``, ``receiver``, ``input``,
            ``position`` and ``token``; with all tokens together these are -1 and ``all``. Each token alone
            only if the sweep has it, and only where the edge can reach the logits.
        """
        cfg, n = self.model.cfg, self.n
        cells = [
            (i, place)
            for i in which
            for place in range(n + 1)
            if place == n or (self.tokens and matters(cfg, self.edges[i], place, n))
        ]
        edge, place = np.array(cells, np.int64).reshape(-1, 2).T
        pair = np.flatnonzero(self.which.numpy())
        change = self.change[edge[:, None], place[:, None], pair]
        table = self.runs.result(
            np.tile(pair, len(cells)), (change + self.runs.base_ld[pair]).ravel()
        )
        edge, place = edge.repeat(len(pair)), place.repeat(len(pair))
        for name, of_edges in self._columns.items():
            table[name] = of_edges[edge]
        table["position"] = np.where(place == n, -1, place)
        table["token"] = np.array([*self.batch.names, TOGETHER])[place]
        return table

    def _sender(self, sender: Sender, delta_pnd: Tensor, live_pn: Tensor, tokens: bool) -> None:
        """All edges from one sender."""
        places = [(m, 1, m) for m in range(self.n)] if tokens else []
        first = int(live_pn[self.which].any(0).int().argmax())
        for begin, width, slot in [*places, (first, self.n - first, self.n)]:
            live = live_pn[:, begin : begin + width].any(1)
            if slot == self.n:  # null pairs are a control only if they are not skipped
                live = live | torch.from_numpy(self.batch.kind(NULL))
            live = live & self.which
            if not live.any():
                continue
            at_once = max(1, self.rows // self.model.cfg.n_heads)
            for row_r in torch.nonzero(live).flatten().split(at_once):
                delta_rwd = delta_pnd[row_r, begin : begin + width]
                for layer in range(max(sender.layer, 0), self.last + 1):
                    if self.stop():
                        raise Stopped
                    if layer > sender.layer:
                        self._into_heads(sender, layer, row_r, begin, slot, delta_rwd)
                    if sender.step < 2 * layer + 2:
                        self._into_mlp(sender, layer, row_r, begin, slot, delta_rwd)
                if begin + width == self.n:
                    self._into_logits(sender, row_r, slot, delta_rwd)

    def _into_heads(
        self, sender: Sender, layer: int, row_r: Tensor, begin: int, slot: int, delta_rwd: Tensor
    ) -> None:
        """Queries, keys and values of all heads of a layer."""
        block, width = self.blocks[layer], delta_rwd.shape[1]
        base_rwd = self.rest.of(layer, "hook_resid_pre")[row_r, begin : begin + width]
        x_rwd = block.ln1(base_rwd + delta_rwd)
        # From which token on this layer's output is wanted: in the last one, at the last alone.
        start = self.n - 1 if layer == self.last else begin
        for name, change in (
            ("q", self._through_queries),
            ("k", self._through_keys),
            ("v", self._through_values),
        ):
            if name == "q" and begin + width <= start:
                continue
            new_rwhe = block.attn.project(x_rwd, name.upper())
            z_rhce = change(layer, row_r, begin, start, new_rwhe)
            out_rhcd = torch.einsum("rhce,hed->rhcd", z_rhce, block.attn.W_O)
            h, c = out_rhcd.shape[1:3]
            mid_rcd = self.rest.of(layer, "hook_resid_mid")[row_r, start : start + c]
            mid_bcd = (mid_rcd.unsqueeze(1) + out_rhcd).flatten(0, 1)
            post_bcd = mid_bcd + block.mlp(block.ln2(mid_bcd))
            ld_rh = self.rest.ld(layer + 1, row_r.repeat_interleave(h), start, post_bcd)
            for head, ld_r in enumerate(ld_rh.reshape(-1, h).T):
                self._put(Edge(sender, Receiver(layer, head, name)), slot, row_r, ld_r)

    def _through_queries(
        self, layer: int, row_r: Tensor, begin: int, start: int, new_rwhe: Tensor
    ) -> Tensor:
        """Change of z (r, h, c, e) at the patched queries, by new queries."""
        q_rchd = new_rwhe[:, max(start - begin, 0) :]
        c = q_rchd.shape[1]
        k_rmhe = self.rest.of(layer, "attn.hook_k")[row_r]
        scores = torch.einsum("rche,rmhe->rhcm", q_rchd, k_rmhe) / math.sqrt(k_rmhe.shape[-1])
        return self._z_change(layer, row_r, start, c, scores)

    def _through_keys(
        self, layer: int, row_r: Tensor, begin: int, start: int, new_rwhe: Tensor
    ) -> Tensor:
        """Change of z (r, h, c, e) at queries from ``start`` on, by new keys."""
        q_rche = self.rest.of(layer, "attn.hook_q")[row_r, start:]
        scores = self.scores[layer][row_r, :, start:].clone()
        new = torch.einsum("rche,rwhe->rhcw", q_rche, new_rwhe) / math.sqrt(q_rche.shape[-1])
        scores[..., begin : begin + new.shape[-1]] = new
        return self._z_change(layer, row_r, start, self.n - start, scores)

    def _through_values(
        self, layer: int, row_r: Tensor, begin: int, start: int, new_rwhe: Tensor
    ) -> Tensor:
        """Change of z (r, h, c, e) at queries from ``start`` on, by new values."""
        width = new_rwhe.shape[1]
        pattern = self._pattern(self.scores[layer][row_r, :, start:], start)
        old_rwhe = self.rest.of(layer, "attn.hook_v")[row_r, begin : begin + width]
        return torch.einsum(
            "rhcw,rwhe->rhce", pattern[..., begin : begin + width], new_rwhe - old_rwhe
        )

    def _z_change(self, layer: int, row_r: Tensor, start: int, c: int, scores: Tensor) -> Tensor:
        old = self.scores[layer][row_r, :, start : start + c]
        moved_rhcm = self._pattern(scores, start) - self._pattern(old, start)
        return torch.einsum(
            "rhcm,rmhe->rhce", moved_rhcm, self.rest.of(layer, "attn.hook_v")[row_r]
        )

    def _into_mlp(
        self, sender: Sender, layer: int, row_r: Tensor, begin: int, slot: int, delta_rwd: Tensor
    ) -> None:
        """The MLP of a layer."""
        start = self.n - 1 if layer == self.last else begin
        delta_rcd = delta_rwd[:, start - begin :]
        c = delta_rcd.shape[1]
        if not c:
            return
        block, at = self.blocks[layer], slice(start, start + c)
        mid_rcd = self.rest.of(layer, "hook_resid_mid")[row_r, at]
        new_rcd = mid_rcd + block.mlp(block.ln2(mid_rcd + delta_rcd))
        ld_r = self.rest.ld(layer + 1, row_r, start, new_rcd)
        self._put(Edge(sender, Receiver(layer, None, "mlp")), slot, row_r, ld_r)

    def _into_logits(self, sender: Sender, row_r: Tensor, slot: int, delta_rwd: Tensor) -> None:
        """What the unembedding reads at the last token."""
        post_rd = self.rest.of(self.last, "hook_resid_post")[row_r, -1] + delta_rwd[:, -1]
        ld_r = self.rest.ld(self.last + 1, row_r, self.n - 1, post_rd.unsqueeze(1))
        self._put(Edge(sender, Receiver(self.last + 1, None, "logits")), slot, row_r, ld_r)

    def _scores(self, layer: int) -> Tensor:
        """Scores of the base run (p, h, n, m), before the mask."""
        q, k = (self.rest.of(layer, f"attn.hook_{name}") for name in "qk")
        return torch.einsum("pnhe,pmhe->phnm", q, k) / math.sqrt(q.shape[-1])

    def _pattern(self, scores: Tensor, start: int) -> Tensor:
        """Attention of queries from ``start`` on, of their scores (r, h, c, m)."""
        seen_cm = self.rest.seen(start)[: scores.shape[2]]
        return scores.masked_fill(~seen_cm, -torch.inf).softmax(-1)

    def _put(self, edge: Edge, slot: int, row_r: Tensor, ld_r: Tensor) -> None:
        rows = row_r.numpy()
        self.computed += len(rows)
        self.change[self.index[edge], slot, rows] = ld_r.double().numpy() - self.runs.base_ld[rows]
