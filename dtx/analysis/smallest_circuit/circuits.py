"""Run a model on some of its edges: clean along those, corrupt along all others.

Shape suffixes: c circuits run at once, p pairs, b = c * p rows, r receivers' inputs, s senders, n tokens,
d model. A cell is (receiver's input, sender, token).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dtx.analysis.core.patching import PairRuns
from dtx.analysis.core.patching_spec import Direction
from dtx.dt.forward import Hook
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.paths import (
    Edge,
    input_hook,
    matters,
    output,
    output_hooks,
    outputs,
    receivers,
    senders,
    split_inputs,
)
from dtx.pairs.pair_set import PairBatch

ROWS = 128
"""Rows run at once: a row holds what all senders wrote, about 1 MB of the default model."""


class Runs:
    """The pairs of one edit in which the runs differ, and the model restricted to circuits of them."""

    def __init__(self, model: DecisionTransformerModel, batch: PairBatch, gap: float):
        self.model, self.batch = model, batch
        keep = set(output_hooks(model.cfg))
        runs = PairRuns(model, batch, Direction.denoise, gap, keep)
        chosen = runs.measurable
        self.pairs = np.flatnonzero(chosen)
        self.ld_corrupt, self.span = runs.base_ld[chosen], runs.span[chosen]
        rows = torch.from_numpy(self.pairs)
        corrupt = {s: x[rows] for s, x in outputs(model, runs.base).items()}
        clean = {s: x[rows] for s, x in outputs(model, runs.source).items()}
        self.senders, self.receivers = senders(model.cfg), receivers(model.cfg)
        self.corrupt_spnd = torch.stack([corrupt[s] for s in self.senders])
        n = batch.changed.shape[1]
        differs_sn = (self.corrupt_spnd != torch.stack(list(clean.values()))).any(-1).any(1)
        self.cells_rsn = np.zeros((len(self.receivers), len(self.senders), n), bool)
        for i, receiver in enumerate(self.receivers):
            for j, sender in enumerate(self.senders):
                edge = Edge(sender, receiver)
                if edge.exists:
                    reach = [matters(model.cfg, edge, m, n) for m in range(n)]
                    self.cells_rsn[i, j] = np.array(reach) & differs_sn[j].numpy()
        self.place = {r: i for i, r in enumerate(self.receivers)}

    def faithfulness(self, keep_crsn: np.ndarray) -> np.ndarray:
        """(c, p): share of each pair's logit difference that each circuit keeps."""
        at_once = max(1, ROWS // max(len(self.pairs), 1))
        parts = [self._kept(keep_crsn[i : i + at_once]) for i in range(0, len(keep_crsn), at_once)]
        return np.concatenate(parts)

    def _kept(self, keep_crsn: np.ndarray) -> np.ndarray:
        circuits, pairs = len(keep_crsn), len(self.pairs)
        batch = self.batch.where(np.isin(np.arange(len(self.batch)), self.pairs))
        context = batch.clean.repeat(circuits)
        # Everything outside of the circuit reads the corrupt run, also where the runs are the same.
        out_brsn = torch.from_numpy(~keep_crsn).repeat_interleave(pairs, 0).float()
        current: dict[str, Tensor] = {}

        def remember(value: Tensor, hook: Any) -> None:
            current[hook.name] = value

        def corrupt(group: list[int]) -> Callable[[Tensor, Any], Tensor]:
            step = self.receivers[group[0]].step
            sending = [j for j, sender in enumerate(self.senders) if sender.step < step]

            def change(value: Tensor, hook: Any) -> Tensor:
                wrote = torch.stack([output(self.model, current, self.senders[j]) for j in sending])
                other = self.corrupt_spnd[sending].repeat(1, circuits, 1, 1)
                out_bgsn = out_brsn[:, group][:, :, sending]
                moved = torch.einsum("sbnd,bgsn->bngd", other - wrote, out_bgsn)
                return value + (moved if value.ndim == 4 else moved[:, :, 0])

            return change

        hooks: list[Hook] = [(name, remember) for name in output_hooks(self.model.cfg)]
        by_hook: dict[str, list[int]] = {}
        for i, receiver in enumerate(self.receivers):
            by_hook.setdefault(input_hook(self.model.cfg, receiver), []).append(i)
        hooks += [(name, corrupt(group)) for name, group in by_hook.items()]
        with split_inputs(self.model), self.model.hooks(fwd_hooks=hooks):
            logits = self.model(context)[:, -1].reshape(circuits, pairs, -1)
        row = torch.arange(pairs)
        ld_cp = logits[:, row, batch.positive] - logits[:, row, batch.negative]
        return (ld_cp.double().numpy() - self.ld_corrupt) / self.span
