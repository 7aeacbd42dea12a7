"""Find the smallest circuit of one edit at one reward-to-go in one direction, and measure it.

Shape suffixes: p pairs, n tokens, r receivers' inputs, s senders, z sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dtx.analysis.core.controls import spread
from dtx.analysis.smallest_circuit.controls import controls, matched, same_nodes, strata
from dtx.analysis.smallest_circuit.masked import MaskedRuns
from dtx.analysis.smallest_circuit.pruning import Pruning, distance
from dtx.analysis.smallest_circuit.spec import (
    HELD_OUT,
    MATCHED,
    PRUNED,
    SAME_NODES,
    SmallestCircuitSpec,
)
from dtx.statistics import Estimate, enumerated, mean_estimate

MIB_SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Shares of all edges at which MIB (Mueller et al., 2025) measures faithfulness for CPR and CMD."""
SUBSETS = 10
"""Random halves of a circuit that are left out for its completeness."""
CURVE_DRAWS = 5
"""Random circuits at each size of the curve; the control at the smallest circuit's size has more."""
GRID = 25
"""Sizes, evenly spaced by ratio, among which the one that a held-out layout needs is looked for."""
LAYOUTS, RANDOM = "layouts", "random circuits"


@dataclass(frozen=True)
class Found:
    """A smallest circuit and what was measured of it.

    Attributes:
        runs: Its pairs. mask_nrs: The circuit. measured: Circuits that were run for it.
        of: All edges at tokens. lost: Share that each edge's removal alone loses, in the order of
            ``np.argwhere``. minimal: Share of the edges without which it is no longer faithful.
        kept: f, mean over pairs. faithfulness: 1 - |1 - f|, mean over pairs.
        rest: What all other edges keep. completeness: Mean |f(circuit - half) - f(model - half)|.
        held_out: Faithfulness of circuits found on other layouts, None with too few layouts.
        needed: Edges in their order from which on a held-out layout is faithful. random, same_nodes:
            Faithfulness of random circuits, without an interval where there are none. cpr, cmd: MIB's.
        curve: Rows of the table. ends: Largest error of the whole model and of no edge.
        batching: Largest difference between a removal measured in a batch and alone.
    """

    runs: MaskedRuns
    mask_nrs: np.ndarray
    measured: int
    of: int
    lost: np.ndarray
    minimal: float
    kept: Estimate
    faithfulness: Estimate
    rest: Estimate
    completeness: float
    held_out: Estimate | None
    needed: Estimate | None
    random: Estimate
    same_nodes: Estimate
    cpr: float
    cmd: float
    curve: pd.DataFrame
    ends: tuple[float, float]
    batching: float

    @property
    def edges(self) -> int:
        """Its size."""
        return int(self.mask_nrs.sum())


def faithful(kept: np.ndarray) -> np.ndarray:
    """1 - |1 - f|: 1 if a circuit keeps exactly everything, 0 if nothing or twice as much."""
    return 1 - np.abs(1 - kept)


def find(spec: SmallestCircuitSpec, runs: MaskedRuns, every: bool) -> Found:
    """Prune, and measure beside controls.

    Args:
        spec: The analysis'. runs: The pairs. every: They are all that there are, so that nothing was sampled.
    """
    search = Pruning(runs, 1 - spec.faithfulness)
    mask_nrs = search.search()
    layouts = runs.batch.table["variant"].astype(str).to_numpy()

    def estimate(values_p: np.ndarray) -> Estimate:
        if every:
            return enumerated(float(values_p.mean()), len(set(layouts)), of=LAYOUTS)
        return mean_estimate(values_p, clusters=layouts, of=LAYOUTS)

    cells_nrs = runs.cells_nrs
    ends_cp = runs.kept([cells_nrs, np.zeros_like(cells_nrs), mask_nrs, cells_nrs & ~mask_nrs])
    order = search.order()
    sizes = _sizes(len(order), int(mask_nrs.sum()))
    held_out_p, needed_p = _cross_validated(spec, runs, layouts, sizes)
    random, near = (
        spread(
            1 - distance(runs.kept(controls(runs, mask_nrs, among, spec.draws, spec.seed))), RANDOM
        )
        for among in (cells_nrs, same_nodes(runs, mask_nrs))
    )
    curve, cpr, cmd = _curve(spec, runs, order, sizes, estimate)
    held_out = None
    if held_out_p is not None:
        held_out = mean_estimate(faithful(held_out_p), clusters=layouts, of=LAYOUTS)
        curve = pd.concat([curve, _point(HELD_OUT, mask_nrs, held_out_p, held_out)])
    curve = pd.concat([curve, _point(SAME_NODES, mask_nrs, None, near)], ignore_index=True)
    return Found(
        runs=runs,
        mask_nrs=mask_nrs,
        measured=search.measured,
        of=len(order),
        lost=search.lost_pk.mean(0),
        minimal=float(1 - search.alone_k.mean()) if len(search.alone_k) else np.nan,
        kept=estimate(ends_cp[2]),
        faithfulness=estimate(faithful(ends_cp[2])),
        rest=estimate(ends_cp[3]),
        completeness=_completeness(spec, runs, mask_nrs),
        held_out=held_out,
        needed=None if needed_p is None else _needed(needed_p, layouts),
        random=random,
        same_nodes=near,
        cpr=cpr,
        cmd=cmd,
        curve=curve.assign(share=curve["size"] / len(order)),
        ends=(float(np.abs(ends_cp[0] - 1).max()), float(np.abs(ends_cp[1]).max())),
        batching=_batching(runs, mask_nrs, spec.seed),
    )


def _sizes(cells: int, smallest: int) -> list[int]:
    """Sizes of the curve: MIB's shares, and sizes evenly spaced by ratio."""
    shares = {max(1, round(share * cells)) for share in MIB_SHARES}
    grid = np.round(np.geomspace(1, cells, GRID)).astype(int).tolist()
    return sorted({*shares, *grid, smallest} - {0})


def _masks(runs: MaskedRuns, order: np.ndarray, sizes: Sequence[int]) -> Iterator[np.ndarray]:
    """The first cells of an order, at each size."""
    for size in sizes:
        mask_nrs = np.zeros_like(runs.cells_nrs)
        mask_nrs[tuple(order[:size].T)] = True
        yield mask_nrs


def _curve(
    spec: SmallestCircuitSpec, runs: MaskedRuns, order: np.ndarray, sizes: Sequence[int], estimate
) -> tuple[pd.DataFrame, float, float]:
    """Faithfulness against size beside random circuits, and the areas under f and |1 - f| by share."""
    masks = list(_masks(runs, order, sizes))
    kept_zp = runs.kept(masks)
    rows, by_kind = [], strata(runs)[0]
    shares = {max(1, round(share * len(order))) for share in MIB_SHARES}
    for size, mask_nrs, kept_p in zip(sizes, masks, kept_zp, strict=True):
        rows.append(_row(PRUNED, size, float(kept_p.mean()), estimate(faithful(kept_p))))
        if size in shares:
            drawn = matched(mask_nrs, runs.cells_nrs, by_kind, CURVE_DRAWS, spec.seed)
            chance_cp = runs.kept(list(drawn))
            beside = spread(1 - distance(chance_cp), RANDOM)
            rows.append(_row(MATCHED, size, float(chance_cp.mean()), beside))
    at = np.array([size in shares for size in sizes])
    share = np.array([0, *np.array(sizes)[at]]) / len(order)
    kept = np.array([0, *kept_zp[at].mean(1)])
    off = np.array([1, *distance(kept_zp[at])])
    return pd.DataFrame(rows), float(np.trapezoid(kept, share)), float(np.trapezoid(off, share))


def _row(circuit: str, size: int, kept: float, faithfulness: Estimate) -> dict:
    value = {"circuit": circuit, "size": size, "kept": kept, "faithfulness": faithfulness.value}
    return {**value, **faithfulness.columns()}


def _point(
    circuit: str, mask_nrs: np.ndarray, kept_p: np.ndarray | None, faithfulness: Estimate
) -> pd.DataFrame:
    kept = np.nan if kept_p is None else float(kept_p.mean())
    return pd.DataFrame([_row(circuit, int(mask_nrs.sum()), kept, faithfulness)])


def _cross_validated(
    spec: SmallestCircuitSpec, runs: MaskedRuns, layouts: np.ndarray, sizes: Sequence[int]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """What circuits found on other layouts keep of each pair (p,), and the size in their order that it needs.

    None with fewer layouts than two a fold.
    """
    names = np.random.default_rng(spec.seed).permutation(np.unique(layouts))
    if spec.folds < 2 or len(names) < spec.folds:
        return None, None
    kept_p, needed_p = np.empty((2, len(layouts)))
    for fold in np.array_split(names, spec.folds):
        out = np.isin(layouts, fold)
        search = Pruning(runs.where(~out), 1 - spec.faithfulness)
        mask_nrs = search.search() & runs.cells_nrs
        apart = runs.where(out)
        kept_p[out] = apart.kept([mask_nrs])[0]
        order = search.order()
        sizes_here = [min(size, len(order)) for size in sizes]
        off_zp = np.abs(1 - apart.kept(list(_masks(runs, order, sizes_here))))
        wrong_zp = off_zp > 1 - spec.faithfulness
        # Behind the last size at which it is not faithful; the whole model always is.
        last_p = np.where(wrong_zp.any(0), len(sizes) - 1 - wrong_zp[::-1].argmax(0), -1)
        needed_p[out] = np.array(sizes)[np.minimum(last_p + 1, len(sizes) - 1)]
    return kept_p, needed_p


def _needed(needed_p: np.ndarray, layouts: np.ndarray) -> Estimate:
    """Sizes differ by factors: their interval is that of the logarithms."""
    of_logs = mean_estimate(np.log(needed_p), clusters=layouts, of=LAYOUTS)
    value, low, high = (float(np.exp(x)) for x in (of_logs.value, of_logs.low, of_logs.high))
    return Estimate(value, low, high, of_logs.n, f"{of_logs.kind}, of logarithms")


def _completeness(spec: SmallestCircuitSpec, runs: MaskedRuns, mask_nrs: np.ndarray) -> float:
    """How differently the circuit and the whole model lose what halves of the circuit carry."""
    rng = np.random.default_rng(spec.seed)
    cells = np.argwhere(mask_nrs)
    masks = []
    for _ in range(SUBSETS):
        out = np.zeros_like(mask_nrs)
        out[tuple(cells[rng.random(len(cells)) < 0.5].T)] = True
        masks += [mask_nrs & ~out, runs.cells_nrs & ~out]
    kept_cp = runs.kept(masks)
    return float(np.abs(kept_cp[::2] - kept_cp[1::2]).mean())


def _batching(runs: MaskedRuns, mask_nrs: np.ndarray, seed: int) -> float:
    """The shared computation of removals against one circuit at a time, for some edges of each layer."""
    cells = np.argwhere(mask_nrs)
    if not len(cells):
        return 0.0
    chosen = np.random.default_rng(seed).permutation(len(cells))[:SUBSETS]
    alone = []
    for cell in cells[chosen]:
        without = mask_nrs.copy()
        without[tuple(cell)] = False
        alone.append(without)
    together = runs.kept_without(mask_nrs, [cells[i : i + 1] for i in chosen])
    return float(np.abs(runs.kept(alone) - together).max())
