"""Run a model on some of its edges: the source run along those, the base run along all others.

What a receiver reads is its stream in the base run plus, for each edge of the circuit at a token, what the
sender writes in this run minus what it wrote in the base run. All edges together therefore give the source
run and no edge the base run, exactly. Nothing is computed that no edge of the circuit reads.

Shape suffixes: c circuits run at once, p pairs, b = c * p rows, r receivers' inputs, s senders, n tokens,
t tokens that are computed, m tokens that are looked at, h heads that are computed, e head width, d model.
A cell is (token, receiver's input, sender).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dtx.analysis.core.patching import PairRuns
from dtx.analysis.core.patching_spec import Direction
from dtx.dt.forward import blocks_of
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.paths import Edge, matters, output_hooks, outputs, receivers, senders
from dtx.pairs.pair_set import PairBatch

AT_ONCE = 700_000
"""Numbers that the heads of a layer read at once, eight rows of the default model: more do not fit a core's
cache, and 32 rows took twice the time each."""
BASE = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "attn.hook_k", "attn.hook_v")


@dataclass(frozen=True)
class _Layer:
    """What of a layer has to be computed for some circuits; indices into the model's axes.

    Attributes:
        senders: Those that are read and come before the attention. heads: Those whose output is read.
        out: (t,) tokens at which it is. kv: Tokens at which they read keys or values from the circuit.
        read_h, read_kv: Places of their queries' and of their keys' and values' inputs.
        mlp: Tokens at which the MLP's output is read. mlp_senders: Those that come before it.
    """

    senders: list[int]
    heads: list[int]
    out: list[int]
    kv: list[int]
    read_q: list[int]
    read_kv: list[int]
    mlp: list[int]
    mlp_senders: list[int]


class MaskedRuns:
    """The pairs of one edit whose runs differ enough, and the model restricted to circuits of them.

    Attributes:
        batch: Those pairs. ld_base: (p,) logit difference without any edge. span: (p,) what all edges add.
        cells_nrs: Edges at tokens that there are, where what the sender writes differs in some pair.
        senders, receivers: The axes s and r.

    Args:
        model: Any, without hooks; its weights get no gradients.
        batch: Pairs of one shape.
        direction: ``denoise``: the circuit carries the clean run into the corrupt one; ``noise``: the other
            way round.
        gap: Smallest span of a pair that is measured.
    """

    def __init__(
        self, model: DecisionTransformerModel, batch: PairBatch, direction: Direction, gap: float
    ):
        self.model, self.blocks = model, blocks_of(model)
        self.senders, self.receivers = senders(model.cfg), receivers(model.cfg)
        names = [f"blocks.{layer}.{x}" for layer in range(model.cfg.n_layers) for x in BASE]
        keep = {*output_hooks(model.cfg), *names}
        with torch.no_grad():
            runs = PairRuns(model, batch, direction, gap, keep)
            chosen = torch.from_numpy(np.flatnonzero(runs.measurable))
            self.batch = batch.where(runs.measurable)
            self.ld_base, self.span = runs.base_ld[runs.measurable], runs.span[runs.measurable]
            self.base = {name: runs.base[name][chosen] for name in names}
            wrote = [outputs(model, run) for run in (runs.source, runs.base)]
            source_pnsd, self.base_pnsd = (
                torch.stack([run[s][chosen] for s in self.senders], 2) for run in wrote
            )
        self.embedded_pn1d = (source_pnsd - self.base_pnsd)[:, :, :1]
        differs_ns = (source_pnsd != self.base_pnsd).any(-1).any(0).numpy()
        self.cells_nrs = self._cells(differs_ns)
        self.layer_r = np.array([receiver.layer for receiver in self.receivers])

    def where(self, chosen_p: np.ndarray) -> MaskedRuns:
        """The same of some of the pairs (p,) bool, with the same cells."""
        some, rows = copy.copy(self), torch.from_numpy(np.flatnonzero(chosen_p))
        some.batch = self.batch.where(chosen_p)
        some.ld_base, some.span = self.ld_base[chosen_p], self.span[chosen_p]
        some.base = {name: x[rows] for name, x in self.base.items()}
        some.base_pnsd, some.embedded_pn1d = self.base_pnsd[rows], self.embedded_pn1d[rows]
        return some

    def _cells(self, differs_ns: np.ndarray) -> np.ndarray:
        n, cfg = len(differs_ns), self.model.cfg
        cells_nrs = np.zeros((n, len(self.receivers), len(self.senders)), bool)
        for i, receiver in enumerate(self.receivers):
            reach = [matters(cfg, Edge(self.senders[0], receiver), m, n) for m in range(n)]
            for j, sender in enumerate(self.senders):
                if Edge(sender, receiver).exists:
                    cells_nrs[:, i, j] = np.array(reach) & differs_ns[:, j]
        return cells_nrs

    @property
    def _at_once(self) -> int:
        """Circuits that are run together."""
        n, inputs, _ = self.cells_nrs.shape
        row = n * inputs // self.model.cfg.n_layers * self.model.cfg.d_model
        return max(1, AT_ONCE // (row * max(len(self.span), 1)))

    def kept(self, masks_cnrs: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """(c, p): share of each pair's logit difference that each circuit keeps (1: all of it)."""
        pairs, at_once = len(self.span), self._at_once
        parts = [np.zeros((0, pairs))]
        with torch.inference_mode():
            for first in range(0, len(masks_cnrs), at_once):
                masks = np.stack(masks_cnrs[first : first + at_once])
                plan = self._plan(masks.any(0))
                gates_bnrs = torch.from_numpy(masks).repeat_interleave(pairs, 0)
                row_b = torch.arange(pairs).repeat(len(masks))
                parts.append(self._share(self._ld(plan, gates_bnrs, row_b), row_b))
        return np.concatenate([part.reshape(-1, pairs) for part in parts])

    def kept_without(self, mask_nrs: np.ndarray, blocks: Sequence[np.ndarray]) -> np.ndarray:
        """(blocks, p): what is kept of a circuit without each of some blocks of cells (cells, 3).

        Layers before the first receiver of a block are computed once for all.
        """
        pairs, at_once = len(self.span), self._at_once
        found = np.empty((len(blocks), pairs))
        first_layer = [int(self.layer_r[block[:, 1]].min()) for block in blocks]
        order = sorted(range(len(blocks)), key=first_layer.__getitem__)
        plan, every = self._plan(mask_nrs), torch.arange(pairs)
        with torch.inference_mode():
            gates_nrs = torch.from_numpy(mask_nrs)
            wrote: list[Tensor] = []
            self._ld(plan, gates_nrs.expand(pairs, -1, -1, -1), every, remember=wrote)
            for layer, group in groupby(order, key=first_layer.__getitem__):
                for some in _chunks(list(group), at_once):
                    masks = gates_nrs.repeat(len(some), 1, 1, 1)
                    for i, block in enumerate(some):
                        masks[i][tuple(torch.from_numpy(blocks[block].T))] = False
                    row_b = every.repeat(len(some))
                    before = wrote[layer].repeat(len(some), 1, 1, 1)
                    ld_b = self._ld(plan, masks.repeat_interleave(pairs, 0), row_b, layer, before)
                    found[some] = self._share(ld_b, row_b).reshape(-1, pairs)
        return found

    def slopes(self, mask_nrs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What a circuit keeps (p,), and how fast that falls when each of its cells is taken out (p, cells).

        The slope is the derivative by a factor before what the edge carries, at factor 1: an estimate of what
        the cell's removal takes away. Cells are in the order of ``np.argwhere``.
        """
        pairs = len(self.span)
        plan, row_p = self._plan(mask_nrs), torch.arange(pairs)
        with torch.enable_grad():
            gates = torch.from_numpy(mask_nrs).float().expand(pairs, -1, -1, -1).clone()
            gates.requires_grad_()
            ld_p = self._ld(plan, gates, row_p)
            (slope_pnrs,) = torch.autograd.grad(ld_p.sum(), gates)
        chosen = slope_pnrs[:, torch.from_numpy(mask_nrs)].double().numpy()
        return self._share(ld_p.detach(), row_p), chosen / self.span[:, None]

    def _share(self, ld_b: Tensor, row_b: Tensor) -> np.ndarray:
        row = row_b.numpy()
        return (ld_b.double().numpy() - self.ld_base[row]) / self.span[row]

    def _plan(self, mask_nrs: np.ndarray) -> list[_Layer]:
        """What has to be computed for circuits within a mask."""
        heads, plan = self.model.cfg.n_heads, []
        read_ns = mask_nrs.any(1)
        read_s = read_ns.any(0)
        for layer in range(self.model.cfg.n_layers):
            first = 1 + layer * (heads + 1)
            into = layer * (3 * heads + 1)
            used = [h for h in range(heads) if read_s[first + h]]
            sending = [s for s in range(first) if s == 0 or read_s[s]]
            read_kv = [into + part * heads + h for part in (1, 2) for h in used]
            after = [*sending, *(first + h for h in used)]
            plan.append(
                _Layer(
                    senders=sending,
                    heads=used,
                    out=_where(read_ns[:, [first + h for h in used]].any(1)),
                    kv=_where(mask_nrs[:, read_kv].any((1, 2))),
                    read_q=[into + h for h in used],
                    read_kv=read_kv,
                    mlp=_where(read_ns[:, first + heads]),
                    mlp_senders=after,
                )
            )
        return plan

    def _ld(
        self,
        plan: list[_Layer],
        gates_bnrs: Tensor,
        row_b: Tensor,
        start: int = 0,
        wrote_bnsd: Tensor | None = None,
        remember: list[Tensor] | None = None,
    ) -> Tensor:
        """Logit differences (b,) of circuits.

        Args:
            plan: What has to be computed. gates_bnrs: What is in each row's circuit. row_b: Its pair.
            start: Layer that is computed first. wrote_bnsd: What the senders before it add to the base run.
            remember: Gets that of every layer.
        """
        if wrote_bnsd is None:
            wrote_bnsd = self.embedded_pn1d[row_b]
        for layer in range(start, len(plan)):
            if remember is not None:
                remember.append(wrote_bnsd)
            wrote_bnsd = self._attend(layer, plan[layer], gates_bnrs, row_b, wrote_bnsd)
            wrote_bnsd = self._think(layer, plan[layer], gates_bnrs, row_b, wrote_bnsd)
        if remember is not None:
            remember.append(wrote_bnsd)
        every = [*plan[-1].mlp_senders, *([len(self.senders) - 1] if plan[-1].mlp else [])]
        gate_bs = gates_bnrs[:, -1, -1][:, every].to(wrote_bnsd.dtype)
        base_bd = self.base[f"blocks.{len(plan) - 1}.hook_resid_post"][row_b, -1]
        read_bd = base_bd + (gate_bs.unsqueeze(1) @ wrote_bnsd[:, -1]).squeeze(1)
        logits, place = self.model.read(read_bd), torch.arange(len(row_b))
        positive, negative = self.batch.positive[row_b], self.batch.negative[row_b]
        return logits[place, positive] - logits[place, negative]

    def _attend(
        self, layer: int, plan: _Layer, gates_bnrs: Tensor, row_b: Tensor, wrote_bnsd: Tensor
    ) -> Tensor:
        """What was written with what the heads of a layer add."""
        if not plan.heads:
            return wrote_bnsd
        block, h = self.blocks[layer], len(plan.heads)
        base_bnd = self.base[f"blocks.{layer}.hook_resid_pre"][row_b]

        def read(tokens: list[int], inputs: list[int]) -> Tensor:
            gates = _take(gates_bnrs, tokens, inputs, plan.senders).to(wrote_bnsd.dtype)
            return block.ln1(base_bnd[:, tokens].unsqueeze(2) + gates @ wrote_bnsd[:, tokens])

        def project(x_bthd: Tensor, name: str) -> Tensor:
            weight, bias = (getattr(block.attn, f"{x}_{name}")[plan.heads] for x in "Wb")
            return torch.einsum("bthd,hde->bthe", x_bthd, weight) + bias

        keys, values = (
            self.base[f"blocks.{layer}.attn.hook_{x}"][row_b][:, :, plan.heads] for x in "kv"
        )
        if plan.kv:
            x_btgd = read(plan.kv, plan.read_kv)
            keys, values = (
                old.index_copy(1, torch.tensor(plan.kv), project(x_btgd[:, :, at], name))
                for old, at, name in ((keys, slice(h), "K"), (values, slice(h, None), "V"))
            )
        queries = project(read(plan.out, plan.read_q), "Q")
        n = wrote_bnsd.shape[1]
        seen_tm = torch.ones(n, n, dtype=torch.bool).tril()[plan.out]
        z_bhte = F.scaled_dot_product_attention(
            *(x.transpose(1, 2) for x in (queries, keys, values)), attn_mask=seen_tm
        )
        out_bthd = torch.einsum("bhte,hed->bthd", z_bhte, block.attn.W_O[plan.heads])
        sent = plan.mlp_senders[-h:]
        return self._added(wrote_bnsd, out_bthd, plan.out, sent, row_b)

    def _think(
        self, layer: int, plan: _Layer, gates_bnrs: Tensor, row_b: Tensor, wrote_bnsd: Tensor
    ) -> Tensor:
        """What was written with what the MLP of a layer adds."""
        if not plan.mlp:
            return wrote_bnsd
        block, heads = self.blocks[layer], self.model.cfg.n_heads
        mlp = layer * (3 * heads + 1) + 3 * heads
        gates = _take(gates_bnrs, plan.mlp, [mlp], plan.mlp_senders).to(wrote_bnsd.dtype)
        base_btd = self.base[f"blocks.{layer}.hook_resid_mid"][row_b][:, plan.mlp]
        read_btd = base_btd + (gates @ wrote_bnsd[:, plan.mlp]).squeeze(2)
        out_bt1d = block.mlp(block.ln2(read_btd)).unsqueeze(2)
        return self._added(wrote_bnsd, out_bt1d, plan.mlp, [(layer + 1) * (heads + 1)], row_b)

    def _added(
        self,
        wrote_bnsd: Tensor,
        out_btsd: Tensor,
        tokens: list[int],
        sent: list[int],
        row_b: Tensor,
    ) -> Tensor:
        """What was written with what more senders write at some tokens, as a change of the base run."""
        base_btsd = _take(self.base_pnsd, tokens, sent)[row_b]
        b, n, _, d = wrote_bnsd.shape
        change = wrote_bnsd.new_zeros(b, n, len(sent), d)
        change = change.index_copy(1, torch.tensor(tokens), out_btsd - base_btsd)
        return torch.cat([wrote_bnsd, change], 2)


def _where(chosen: np.ndarray) -> list[int]:
    return np.flatnonzero(chosen).tolist()


def _take(values: Tensor, *chosen: list[int]) -> Tensor:
    """Entries of the axes from the second on."""
    for axis, places in enumerate(chosen, start=1):
        values = values.index_select(axis, torch.tensor(places, dtype=torch.long))
    return values


def _chunks(items: list[int], size: int) -> Iterable[list[int]]:
    return (items[i : i + size] for i in range(0, len(items), size))
