"""Cut the ranking of edges off at growing sizes until what is left keeps enough of an edit's effect.

Shape suffixes: c circuits, r receivers' inputs, s senders, n tokens. A cell is (receiver's input, sender,
token).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from dtx.analysis.core.patching import NO_GAP, worst
from dtx.analysis.core.patching_spec import EDIT
from dtx.analysis.core.result import About, Check, Claim, Result, Verdict
from dtx.analysis.smallest_circuit.circuits import Runs
from dtx.analysis.smallest_circuit.spec import RANDOM, RANKED, SmallestCircuitSpec
from dtx.dt.model import DecisionTransformerModel
from dtx.pairs.pair_set import PairSet
from dtx.progress import progress
from dtx.statistics import bootstrap
from dtx.training.threads import one_thread

CURVE = ["size", "circuit", "faithfulness", "low", "high"]
CELL = ["sender", "receiver", "input", "position", "token"]


@dataclass(frozen=True)
class Smallest:
    """The smallest circuit of an edit.

    Attributes:
        edges: Its size. of: All edges at tokens that there are.
        faithfulness: What it keeps. random_max: What the best random circuit of its size keeps.
    """

    edges: int
    faithfulness: float
    random_max: float
    of: int


@torch.inference_mode()
def compute(
    spec: SmallestCircuitSpec,
    model: DecisionTransformerModel,
    pairs: PairSet,
    ranking: pd.DataFrame,
    edits: Sequence[str] | None = None,
) -> Result:
    """Cut each edit's ranking off at growing sizes.

    Args:
        spec: How much must be kept, and by how many random circuits it is compared.
        model: Any.
        pairs: Clean and corrupt runs.
        ranking: Table ``edges`` of path patching, of the same model and pairs.
        edits: Names of the pairs' edits; None: all.

    Returns:
        Tables ``curve`` (edit, size, circuit: ranked or random, faithfulness; low and high: over pairs, of
        random ones the least and most faithful) and ``circuit`` (the edges of each smallest circuit).
        Metrics of each edit: ``EDIT_edges``, ``EDIT_faithfulness``, ``EDIT_random_max``, ``EDIT_of``.
    """
    at_tokens = ranking.loc[(ranking["kind"] == EDIT) & (ranking["position"] >= 0)]
    edits = [edit for edit in pairs.about["edits"] if edits is None or edit in edits]
    curves, circuits, whole, empty, distinct = [], [], [], [], set()
    smallest: dict[str, Smallest | None] = {}
    with one_thread(), progress("circuits", len(edits), "edits") as bar:
        for edit in edits:
            runs = _runs(model, pairs, edit)
            bar.advance(1)
            if runs is None:
                smallest[edit] = None
                continue
            ranked = _ranked(runs, at_tokens[at_tokens["edit"] == edit])
            ends = runs.faithfulness(np.stack([runs.cells_rsn, np.zeros_like(runs.cells_rsn)]))
            whole.append(float(np.abs(ends[0] - 1).max()))
            empty.append(float(np.abs(ends[1]).max()))
            distinct |= {
                (edit, ld, span) for ld, span in zip(runs.ld_corrupt, runs.span, strict=True)
            }
            curve, size = _curve(spec, runs, ranked)
            smallest[edit] = _smallest(curve, size, len(ranked))
            curves.append(curve.assign(edit=edit))
            circuits.append(_listed(runs, ranked[:size]).assign(edit=edit))
    checks = {"the whole model keeps everything": whole, "no edge at all keeps nothing": empty}
    return Result(
        finding=_finding(smallest),
        metrics=_metrics(smallest),
        checks=[
            Check(name=name, error=worst(errors), tolerance=spec.tolerance)
            for name, errors in checks.items()
        ],
        claims=list(_claims(spec, smallest)),
        tables={"curve": _joined(curves, CURVE), "circuit": _joined(circuits, CELL)},
        distinct_inputs=len(distinct),
        problems=[] if whole else [NO_GAP],
    )


def _joined(tables: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    if not tables:  # no edit can be measured
        return pd.DataFrame(columns=[*columns, "edit"])
    return pd.concat(tables, ignore_index=True)


def _runs(model: DecisionTransformerModel, pairs: PairSet, edit: str) -> Runs | None:
    """The commonest length of windows of an edit; None where no pair differs enough."""
    runs = []
    for batch in pairs.batches(model):
        chosen = batch.where(np.array(batch.table["edit"] == edit) & batch.kind(EDIT))
        if len(chosen):
            runs.append(Runs(model, chosen, pairs.min_ld_gap))
    best = max(runs, key=lambda runs: len(runs.pairs), default=None)
    return best if best is not None and len(best.pairs) else None


def _ranked(runs: Runs, effects: pd.DataFrame) -> np.ndarray:
    """All cells (cells, 3), the largest |rho| over all rewards-to-go first; those not measured at the end."""
    size_rsn = np.zeros(runs.cells_rsn.shape)
    where = {(r.name, r.input): i for i, r in enumerate(runs.receivers)}
    sender = {s.name: j for j, s in enumerate(runs.senders)}
    by = ["sender", "receiver", "input", "position"]
    n = size_rsn.shape[-1]  # longer windows have edges at later tokens
    effects = effects.loc[effects["position"] < n]
    mean = effects.assign(size=effects["rho"].abs()).groupby(by, observed=True)["size"].mean()
    for (name, receiver, read, position), size in mean.items():  # type: ignore[misc]
        size_rsn[where[receiver, read], sender[name], position] = size
    cells = np.argwhere(runs.cells_rsn)
    return cells[np.argsort(-size_rsn[tuple(cells.T)], kind="stable")]


def _curve(spec: SmallestCircuitSpec, runs: Runs, ranked: np.ndarray) -> tuple[pd.DataFrame, int]:
    """Faithfulness at sizes 1, 2, 4, ... and at the smallest size that is faithful; random ones beside."""
    rng = np.random.default_rng(spec.seed)
    kept: dict[int, np.ndarray] = {}

    def at(size: int) -> float:
        if size not in kept:
            kept[size] = runs.faithfulness(_masks(runs, [ranked[:size]]))[0]
        return float(kept[size].mean())

    sizes = [2**i for i in range(len(ranked).bit_length()) if 2**i < len(ranked)] + [len(ranked)]
    high = next((size for size in sizes if at(size) >= spec.faithfulness), len(ranked))
    low = high // 2
    # Faithfulness need not grow with size: this is a faithful cut within the last doubling.
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if at(middle) >= spec.faithfulness else (middle, high)
    rows = []
    for size in sorted({*sizes, high}):
        at(size)
        ends = bootstrap(kept[size], spec.resamples, spec.seed)
        rows.append((size, RANKED, float(kept[size].mean()), *ends))
        drawn = [ranked[rng.choice(len(ranked), size, replace=False)] for _ in range(spec.draws)]
        chance = runs.faithfulness(_masks(runs, drawn)).mean(1)
        rows.append((size, RANDOM, float(chance.mean()), float(chance.min()), float(chance.max())))
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


def _smallest(curve: pd.DataFrame, size: int, cells: int) -> Smallest:
    row = curve[curve["size"] == size].set_index("circuit")
    kept, chance = row.loc[RANKED, "faithfulness"], row.loc[RANDOM, "high"]
    return Smallest(size, float(kept), float(chance), cells)


def _metrics(smallest: dict[str, Smallest | None]) -> dict[str, float | None]:
    metrics: dict[str, float | None] = {}
    for edit, best in smallest.items():
        metrics |= {
            f"{edit}_edges": best.edges if best else None,
            f"{edit}_faithfulness": best.faithfulness if best else None,
            f"{edit}_random_max": best.random_max if best else None,
            f"{edit}_of": best.of if best else None,
        }
    return metrics


def _finding(smallest: dict[str, Smallest | None]) -> str:
    """The size of each edit's circuit beside random ones."""
    return "; ".join(
        f"{edit}: the runs differ by less than the gap"
        if best is None
        else f"{edit}: {best.edges:,} of {best.of:,} edges at tokens keep {best.faithfulness:.2f} "
        f"(random ones at most {best.random_max:.2f})"
        for edit, best in smallest.items()
    )


def _claims(spec: SmallestCircuitSpec, smallest: dict[str, Smallest | None]) -> Iterator[Claim]:
    """One claim an edit: it takes these edges, and not just as many."""
    for edit, best in smallest.items():
        if best is None:
            continue
        yield Claim(
            id=f"{edit}_circuit",
            text=f"the circuit of {edit} keeps what random ones of its size do not",
            criterion=f"random circuits of its size keep less than {spec.faithfulness:g}",
            evidence=f"{best.edges:,} of {best.of:,} edges at tokens keep {best.faithfulness:.2f}, "
            f"random ones at most {best.random_max:.2f}",
            verdict=Verdict.of(best.random_max < spec.faithfulness),
            about=About.INSTRUMENT,
        )
