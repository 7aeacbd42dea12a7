"""Run a model on some of its edges: clean along those, corrupt along all others.

Shape suffixes: c circuits run at once, p pairs, b = c * p rows, r receivers' inputs, s senders, n tokens,
h head, d model. A cell is (receiver's input, sender, token).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.core.patching import PairRuns
from dtx.analysis.core.patching_spec import Direction
from dtx.analysis.smallest_circuit import SmallestCircuit
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
from dtx.pairs.pair_set import PairBatch, PairSet
from dtx.progress import progress
from dtx.statistics import bootstrap
from dtx.training.threads import one_thread

if TYPE_CHECKING:
    from dtx.dt.model import DecisionTransformerModel

ROWS = 128
"""Rows run at once: a row holds what all senders wrote, about 1 MB of the default model."""

CURVE = ["size", "circuit", "faithfulness", "low", "high"]
CELL = ["sender", "receiver", "input", "position", "token"]


@dataclass
class Found:
    """What came out.

    Attributes:
        tables: ``curve`` (edit, size, circuit: ranked or random, faithfulness; low and high: over pairs, of
            random ones the least and most faithful) and ``circuit`` (the edges of each smallest circuit).
        smallest: For each edit its size, its faithfulness, the random circuits' largest, and all cells.
        identity_error: Distance of the whole model from 1, of no edge from 0.
        distinct: Distinct pairs of logit differences.
    """

    tables: dict[str, pd.DataFrame]
    smallest: dict[str, tuple[int, float, float, int] | None]
    identity_error: float
    distinct: int


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

        hooks: list = [(name, remember) for name in output_hooks(self.model.cfg)]
        by_hook: dict[str, list[int]] = {}
        for i, receiver in enumerate(self.receivers):
            by_hook.setdefault(input_hook(self.model.cfg, receiver), []).append(i)
        hooks += [(name, corrupt(group)) for name, group in by_hook.items()]
        with split_inputs(self.model), self.model.hooks(fwd_hooks=hooks):
            logits = self.model(context)[:, -1].reshape(circuits, pairs, -1)
        row = torch.arange(pairs)
        ld_cp = logits[:, row, batch.positive] - logits[:, row, batch.negative]
        return (ld_cp.double().numpy() - self.ld_corrupt) / self.span


@torch.inference_mode()
def measure(stage: SmallestCircuit, model: DecisionTransformerModel, pairs: PairSet) -> Found:
    """Cut each edit's ranking off at growing sizes."""
    ranking = pd.read_parquet(stage.paths.path / "tables" / "edges.parquet")
    ranking = ranking[(ranking["kind"] == "edit") & (ranking["position"] >= 0)]
    edits = [e for e in pairs.about["edits"] if stage.paths.edits is None or e in stage.paths.edits]
    curves, circuits, smallest, errors, distinct = [], [], {}, [], set()
    with one_thread(), progress("circuits", len(edits), "edits") as bar:
        for edit in edits:
            runs = _runs(model, pairs, edit)
            bar.advance(1)
            if runs is None:
                smallest[edit] = None
                continue
            ranked = _ranked(runs, ranking[ranking["edit"] == edit])
            ends = runs.faithfulness(np.stack([runs.cells_rsn, np.zeros_like(runs.cells_rsn)]))
            errors.append(float(max(np.abs(ends[0] - 1).max(), np.abs(ends[1]).max())))
            distinct |= {
                (edit, ld, span) for ld, span in zip(runs.ld_corrupt, runs.span, strict=True)
            }
            curve, size = _curve(stage, runs, ranked)
            row = curve[curve["size"] == size].set_index("circuit")
            smallest[edit] = (
                size,
                float(row.loc["ranked", "faithfulness"]),
                float(row.loc["random", "high"]),
                len(ranked),
            )
            curves.append(curve.assign(edit=edit))
            circuits.append(_listed(runs, ranked[:size]).assign(edit=edit))
    tables = {
        "curve": _joined(curves, CURVE),
        "circuit": _joined(circuits, CELL),
    }
    return Found(tables, smallest, max(errors, default=np.nan), len(distinct))


def _joined(tables: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    if not tables:  # no edit can be measured
        return pd.DataFrame(columns=[*columns, "edit"])
    return pd.concat(tables, ignore_index=True)


def _runs(model: DecisionTransformerModel, pairs: PairSet, edit: str) -> Runs | None:
    """The commonest length of windows of an edit; None where no pair differs enough."""
    found = []
    for batch in pairs.batches(model):
        mine = batch.where(np.array(batch.table["edit"] == edit) & batch.kind("edit"))
        if len(mine):
            found.append(Runs(model, mine, pairs.min_ld_gap))
    best = max(found, key=lambda runs: len(runs.pairs), default=None)
    return best if best is not None and len(best.pairs) else None


def _ranked(runs: Runs, effects: pd.DataFrame) -> np.ndarray:
    """All cells (cells, 3), the largest |rho| over all rewards-to-go first; those not measured at the end."""
    size_rsn = np.zeros(runs.cells_rsn.shape)
    where = {(r.name, r.input): i for i, r in enumerate(runs.receivers)}
    sender = {s.name: j for j, s in enumerate(runs.senders)}
    by = ["sender", "receiver", "input", "position"]
    mean = effects.assign(size=effects["rho"].abs()).groupby(by, observed=True)["size"].mean()
    for (name, receiver, read, position), size in mean.items():  # type: ignore[misc]
        size_rsn[where[receiver, read], sender[name], position] = size
    cells = np.argwhere(runs.cells_rsn)
    return cells[np.argsort(-size_rsn[tuple(cells.T)], kind="stable")]


def _curve(stage: SmallestCircuit, runs: Runs, ranked: np.ndarray) -> tuple[pd.DataFrame, int]:
    """Faithfulness at sizes 1, 2, 4, ... and at the smallest size that is faithful; random ones beside."""
    rng = np.random.default_rng(stage.seed)
    kept: dict[int, np.ndarray] = {}

    def at(size: int) -> float:
        if size not in kept:
            kept[size] = runs.faithfulness(_masks(runs, [ranked[:size]]))[0]
        return float(kept[size].mean())

    sizes = [2**i for i in range(len(ranked).bit_length()) if 2**i < len(ranked)] + [len(ranked)]
    high = next((size for size in sizes if at(size) >= stage.faithfulness), len(ranked))
    low = high // 2
    while (
        high - low > 1
    ):  # faithfulness need not grow with size: this is a faithful cut, of the last doubling
        middle = (low + high) // 2
        low, high = (low, middle) if at(middle) >= stage.faithfulness else (middle, high)
    rows = []
    for size in sorted({*sizes, high}):
        at(size)
        ends = bootstrap(kept[size], stage.resamples, stage.seed)
        rows.append((size, "ranked", float(kept[size].mean()), *ends))
        drawn = [ranked[rng.choice(len(ranked), size, replace=False)] for _ in range(stage.draws)]
        chance = runs.faithfulness(_masks(runs, drawn)).mean(1)
        rows.append(
            (size, "random", float(chance.mean()), float(chance.min()), float(chance.max()))
        )
    return pd.DataFrame(rows, columns=CURVE), high


def _masks(runs: Runs, circuits: list[np.ndarray]) -> np.ndarray:
    """(c, r, s, n) bool of lists of cells."""
    masks = np.zeros((len(circuits), *runs.cells_rsn.shape), bool)
    for mask, cells in zip(masks, circuits, strict=True):
        mask[tuple(cells.T)] = True
    return masks


def _listed(runs: Runs, cells: np.ndarray) -> pd.DataFrame:
    rows = [
        (
            runs.senders[s].name,
            runs.receivers[r].name,
            runs.receivers[r].input,
            int(n),
            runs.batch.names[n],
        )
        for r, s, n in cells
    ]
    return pd.DataFrame(rows, columns=CELL)


def headline(stage: SmallestCircuit, found: Found) -> dict[str, float | None]:
    """``circuit/*``: sizes, faithfulness and controls of each edit."""
    numbers: dict[str, float | None] = {
        "circuit/identity_error": found.identity_error,
        "circuit/distinct_inputs": float(found.distinct),
    }
    for edit, best in found.smallest.items():
        size, kept, chance, cells = best or (None, None, None, None)
        numbers |= {
            f"circuit/{edit}_edges": size,
            f"circuit/{edit}_faithfulness": kept,
            f"circuit/{edit}_random_max": chance,
            f"circuit/{edit}_of": cells,
        }
    return numbers
