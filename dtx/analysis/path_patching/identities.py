"""The exact checks of path patching: whole sets of edges, nodes, what is no edge, and the sweep itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.core.patching import PairRuns
from dtx.analysis.core.patching_spec import EDIT, Direction
from dtx.analysis.path_patching.spec import EdgeTokens, PathPatchingSpec
from dtx.analysis.path_patching.sweep import EdgeSweep
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.paths import (
    Edge,
    Receiver,
    Sender,
    edges,
    matters,
    output_hooks,
    outputs,
    patched,
    senders,
)

IDENTITIES = {
    "sweep": "the batched sweep is one plain forward pass an edge",
    "everything": "patching all edges at all tokens brings the whole difference",
    "nothing": "patching all edges at no token changes nothing",
    "node": "patching all edges of a node is patching the node",
    "no edge": "patching from a sender that comes after the receiver changes nothing",
}
"""What must come out exactly, by its name in the table ``identities``."""
PAIRS = 8
"""Pairs of a batch that are checked: each check is a plain forward pass with hooks."""
SAMPLED = 4
"""Cells of each kind of receiver that are compared with a plain forward pass, beside the strongest."""


def identities(
    spec: PathPatchingSpec, model: DecisionTransformerModel, runs: PairRuns, sweep: EdgeSweep
) -> pd.DataFrame:
    """One row a check of a pair: ``identity``, ``name``, pair, ``expected``, ``found``, ``error`` (rho)."""
    whole = runs.batch
    rng = np.random.default_rng(spec.seed)
    fit = np.flatnonzero(runs.measurable & whole.kind(EDIT))
    if not len(fit):
        return pd.DataFrame({"identity": [], "name": [], "error": []})
    row = np.sort(rng.choice(fit, min(PAIRS, len(fit)), replace=False))
    checks = _Checks(model, runs, row, spec.direction)
    for cell in _cells(sweep, spec, row, rng):
        checks.sweep(sweep, *cell)
    every = edges(model.cfg)
    full, empty = checks.mask(-1), torch.zeros_like(checks.mask(-1))
    checks.add("everything", "all edges", 1.0, checks.patch(every, full))
    checks.add("nothing", "all edges at no token", 0.0, checks.patch(every, empty))
    # Where the runs differ first, and where the logits are read.
    first = int(whole.changed[row].any(0).int().argmax())
    for sender in _chosen(model):
        for place in sorted({first, checks.n - 1}):
            outgoing = [edge for edge in every if edge.sender == sender]
            expected = checks.rho(checks.node(sender, checks.mask(place)))
            name = f"{sender.name} at {whole.names[place]}"
            checks.add("node", name, expected, checks.patch(outgoing, checks.mask(place)))
    for edge in _none(model):
        name = f"{edge.sender.name} > {edge.receiver.name} {edge.receiver.input}"
        checks.add("no edge", name, 0.0, checks.patch([edge], full))
    return pd.concat(checks.tables, ignore_index=True)


def _chosen(model: DecisionTransformerModel) -> list[Sender]:
    """The embedding, every MLP and the first head of every layer."""
    return [s for s in senders(model.cfg) if s.kind != "head" or s.head == 0]


def _none(model: DecisionTransformerModel) -> list[Edge]:
    """Pairs whose sender comes after the receiver, or in its own layer."""
    cfg = model.cfg
    late = Sender(cfg.n_layers - 1, 0, "head")
    none = [Edge(late, Receiver(cfg.n_layers - 1, cfg.n_heads - 1, "v"))]
    none += [Edge(Sender(0, None, "mlp"), Receiver(0, None, "mlp"))]
    return [*none, Edge(late, Receiver(0, 0, "k"))]


def _cells(
    sweep: EdgeSweep, spec: PathPatchingSpec, row: np.ndarray, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """(edge, position) of each kind of receiver: the strongest, and some that change something."""
    cfg, n = sweep.model.cfg, sweep.n
    size = np.abs(sweep.change[:, :, row]).max(-1)
    chosen = []
    for kind in ("q", "k", "v", "mlp", "logits"):
        of_kind = [i for i, edge in enumerate(sweep.edges) if edge.receiver.input == kind]
        cells = [(i, -1) for i in of_kind]
        if spec.tokens is EdgeTokens.each:
            cells += [
                (i, m) for i in of_kind for m in range(n) if matters(cfg, sweep.edges[i], m, n)
            ]
        moved = [cell for cell in cells if size[cell] > 0] or cells
        strongest = max(moved, key=lambda cell: size[cell])
        drawn = rng.choice(len(moved), min(SAMPLED, len(moved)), replace=False)
        chosen += [strongest, *(moved[i] for i in drawn)]
    return list(dict.fromkeys(chosen))


class _Checks:
    """Plain patched runs of some pairs."""

    def __init__(
        self,
        model: DecisionTransformerModel,
        runs: PairRuns,
        row: np.ndarray,
        direction: Direction,
    ):
        self.model, self.runs, self.row = model, runs, row
        self.index = torch.from_numpy(row)
        base = runs.batch.corrupt if direction is Direction.denoise else runs.batch.clean
        self.context = base[self.index]
        names = output_hooks(model.cfg)
        self.cache = {name: runs.source[name][self.index] for name in names}
        self.source = outputs(model, self.cache)
        self.n = runs.batch.changed.shape[1]
        self.tables: list[pd.DataFrame] = []

    def mask(self, position: int) -> Tensor:
        """(p, n) bool: a token of every pair, or with -1 all."""
        mask = torch.full((len(self.row), self.n), position < 0)
        if position >= 0:
            mask[:, position] = True
        return mask

    def patch(self, chosen: list[Edge], mask_pn: Tensor) -> Tensor:
        """Logits with edges patched."""
        return patched(self.model, self.context, self.source, [(e, mask_pn) for e in chosen])

    def node(self, sender: Sender, mask_pn: Tensor) -> Tensor:
        """Logits with the sender's output itself patched."""
        hook = {
            "embed": "blocks.0.hook_resid_pre",
            "head": f"blocks.{sender.layer}.attn.hook_z",
            "mlp": f"blocks.{sender.layer}.hook_mlp_out",
        }[sender.kind]

        def put(value: Tensor, hook: Any) -> Tensor:
            value, new = value.clone(), self.cache[hook.name]
            if sender.head is not None:
                value[:, :, sender.head][mask_pn] = new[:, :, sender.head][mask_pn]
            else:
                value[mask_pn] = new[mask_pn]
            return value

        return self.model.run_with_hooks(self.context, fwd_hooks=[(hook, put)])[:, -1]

    def rho(self, logits: Tensor) -> np.ndarray:
        """(p,) of logits at the last state."""
        batch = self.runs.batch
        place = torch.arange(len(self.row))
        ld = logits[place, batch.positive[self.index]] - logits[place, batch.negative[self.index]]
        return (ld.double().numpy() - self.runs.base_ld[self.row]) / self.runs.span[self.row]

    def add(self, identity: str, name: str, expected: float | np.ndarray, logits: Tensor) -> None:
        """Add a check of every pair."""
        table = self.runs.about(self.row)
        table.insert(0, "identity", identity)
        table.insert(1, "name", name)
        table["expected"], table["found"] = expected, self.rho(logits)
        table["error"] = (table["found"] - table["expected"]).abs()
        self.tables.append(table)

    def sweep(self, sweep: EdgeSweep, edge: int, position: int) -> None:
        """A cell of the sweep against a plain forward pass."""
        chosen = sweep.edges[edge]
        at = "all" if position < 0 else self.runs.batch.names[position]
        name = f"{chosen.sender.name} > {chosen.receiver.name} {chosen.receiver.input} at {at}"
        change = sweep.change[edge, position, self.row] / self.runs.span[self.row]
        self.add("sweep", name, change, self.patch([chosen], self.mask(position)))
