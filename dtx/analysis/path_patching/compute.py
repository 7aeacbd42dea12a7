"""Patch every edge, and summarise: means over pairs, the strongest edges, the exact checks.

Letters: p pairs, n tokens; a cell is an edge at a token, or at all tokens together (position -1).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from dtx.analysis.core.patching import (
    PairRuns,
    above_control,
    distinct_inputs,
    n_missing,
    null_check,
    without_gap,
    worst,
)
from dtx.analysis.core.patching_spec import DONOR, EDIT, NULL
from dtx.analysis.core.result import Check, Claim, Result
from dtx.analysis.path_patching.identities import IDENTITIES, identities
from dtx.analysis.path_patching.spec import TOGETHER, EdgeTokens, PathPatchingSpec
from dtx.analysis.path_patching.sweep import EdgeSweep, wanted
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.paths import Edge, edges, matters
from dtx.pairs.pair_set import PairBatch, PairSet
from dtx.progress import progress
from dtx.statistics import bootstrap_columns
from dtx.training.threads import one_thread

LISTED = 60
"""Edges an edit in the table ``important``."""


@torch.inference_mode()
def compute(spec: PathPatchingSpec, model: DecisionTransformerModel, pairs: PairSet) -> Result:
    """Patch every edge that the settings ask for.

    Returns:
        Tables ``edges`` (means over pairs with intervals), ``important`` (the strongest of each edit, all
        targets together), ``identities`` (one row a check of a pair) and ``runs`` (one row a pair); array
        ``tokens``, the names of the longest windows' tokens. Metrics of each edit: ``EDIT_best_rho`` of its
        strongest edge, ``EDIT_control_rho`` of the same edge with activations from unrelated layouts, and
        ``EDIT_random_95``, the |rho| that 95% of the cells with such a receiver stay under.
    """
    named = list(pairs.about["edits"])
    edits = [name for name in named if spec.edits is None or name in spec.edits]
    batches = [
        batch.where(np.array(batch.table["edit"].isin(edits)) | batch.kind(NULL))
        for batch in pairs.batches(model)
    ]
    swept = _sweep(spec, model, batches, pairs.min_ld_gap)
    tokens = max((batch.names for batch in batches), key=len)
    cells = _cells(edges(model.cfg), swept.rho, swept.runs, tokens)
    important = _important(cells, edits, spec)
    return Result(
        finding=_finding(important),
        metrics={
            "null_change": swept.null_change,
            "n_missing": n_missing(swept.runs),
            **_strongest(cells, important, edits),
        },
        checks=[*_checks(spec, swept), null_check(swept.null_change, spec.tolerance)],
        claims=list(_claims(important)),
        tables={
            "edges": _effects(cells, spec),
            "important": important,
            "identities": swept.identities,
            "runs": swept.runs,
        },
        arrays={"tokens": np.array(tokens)},
        distinct_inputs=distinct_inputs(swept.runs),
        timing=swept.timing,
        problems=without_gap(swept.runs),
    )


@dataclass(frozen=True)
class _Swept:
    """rho (edges, n + 1, p) of all pairs; the last column of tokens is that of all together.

    ``runs`` has a row a pair, ``identities`` one a check of a pair.
    """

    rho: np.ndarray
    runs: pd.DataFrame
    identities: pd.DataFrame
    null_change: float | None
    timing: dict[str, float]


@dataclass(frozen=True)
class _Cells:
    """rho (cells, p) of all pairs; the pairs and the cells beside it."""

    rho: np.ndarray
    pairs: pd.DataFrame
    about: pd.DataFrame


def _sweep(
    spec: PathPatchingSpec, model: DecisionTransformerModel, batches: list[PairBatch], gap: float
) -> _Swept:
    """Patch every edge at every token of every pair, and check the sweep on some of them."""
    every = edges(model.cfg)
    longest = max(batch.changed.shape[1] for batch in batches)
    rho = np.full((len(every), longest + 1, sum(map(len, batches))), np.nan)
    checks, tables, null, seconds, computed, patches, done = [], [], [], 0.0, 0, 0, 0
    each = spec.tokens is EdgeTokens.each
    with (
        one_thread(),
        progress("path patching", len(every) * len(batches), "edges") as bar,
    ):
        for batch in batches:
            runs = PairRuns(model, batch, spec.direction, gap, wanted(model.cfg.n_layers))
            begin = time.perf_counter()
            sweep = EdgeSweep(model, runs, spec.at_once, each, bar.advance)
            seconds += time.perf_counter() - begin
            computed += sweep.computed
            p, n = batch.changed.shape
            with np.errstate(divide="ignore", invalid="ignore"):
                of_batch = np.where(runs.measurable, sweep.change / runs.span, np.nan)
            places = _places(every, model, n, each)
            patches += int(places.sum()) * p
            of_batch[~places] = np.nan
            rho[:, :n, done : done + p] = of_batch[:, :-1]
            rho[:, -1, done : done + p] = of_batch[:, -1]
            done += p
            if batch.kind(NULL).any():
                null.append(float(np.abs(sweep.change[..., batch.kind(NULL)]).max()))
            checks.append(identities(spec, model, runs, sweep))
            tables.append(runs.table())
    return _Swept(
        rho=rho,
        runs=pd.concat(tables, ignore_index=True),
        identities=pd.concat(checks, ignore_index=True),
        null_change=worst(null),
        timing={
            "sweep_seconds": seconds,
            "patches": patches,
            "forwards": computed,
            "patches_per_second": patches / max(seconds, 1e-9),
        },
    )


def _checks(spec: PathPatchingSpec, swept: _Swept) -> list[Check]:
    """The exact checks, unless the runs of no pair differ enough for a rho."""
    if swept.identities.empty and without_gap(swept.runs):
        return []
    table = swept.identities
    return [
        Check(
            name=words,
            error=worst(table.loc[table["identity"] == name, "error"]),
            tolerance=spec.tolerance,
        )
        for name, words in IDENTITIES.items()
    ]


def _places(every: list[Edge], model: DecisionTransformerModel, n: int, each: bool) -> np.ndarray:
    """(edges, n + 1) bool: cells that can change the last logits, and that were asked for."""
    places = np.ones((len(every), n + 1), bool)
    for i, edge in enumerate(every):
        places[i, :n] = [each and matters(model.cfg, edge, m, n) for m in range(n)]
    return places


def _cells(every: list[Edge], rho: np.ndarray, pairs: pd.DataFrame, tokens: list[str]) -> _Cells:
    """Cells in a line, without those that no pair has."""
    edge, place = np.nonzero(np.isfinite(rho).any(-1))
    names = np.array([*tokens, TOGETHER])
    columns = {
        "sender": [e.sender.name for e in every],
        "receiver": [e.receiver.name for e in every],
        "input": [e.receiver.input for e in every],
    }
    about = pd.DataFrame({k: pd.Categorical(np.array(v)[edge]) for k, v in columns.items()})
    about["position"] = np.where(place == len(tokens), -1, place)
    about["token"] = pd.Categorical(names[place])
    return _Cells(rho[edge, place], pairs, about)


def _means(cells: _Cells, chosen: np.ndarray, spec: PathPatchingSpec) -> pd.DataFrame:
    """Cells with mean rho over the chosen pairs (p,) and its interval."""
    rho = cells.rho[:, chosen]
    rho = rho[:, np.isfinite(rho).any(0)]
    table = cells.about.copy()
    whole = np.isfinite(rho).all(1)
    low, high = np.full((2, len(rho)), np.nan)
    low[whole], high[whole] = bootstrap_columns(rho[whole].T, spec.resamples, spec.seed)
    for row in np.flatnonzero(~whole):  # windows of several lengths: a cell is not in all pairs
        there = rho[row][np.isfinite(rho[row])]
        ends = bootstrap_columns(there[:, None], spec.resamples, spec.seed)
        low[row], high[row] = (float(end[0]) for end in ends)
    count = np.isfinite(rho).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        table["rho"] = np.nansum(rho, 1) / count
    table["low"], table["high"], table["pairs"] = low, high, count
    table["missing"] = int(chosen.sum()) - rho.shape[1]
    return table


def _effects(cells: _Cells, spec: PathPatchingSpec) -> pd.DataFrame:
    """Mean rho of every cell by edit, kind and reward-to-go."""
    tables = []
    of = ["edit", "kind", "reward_to_go"]
    for key in cells.pairs[of].drop_duplicates().itertuples(index=False):
        if key.kind == NULL:
            continue
        chosen = (cells.pairs[of] == list(key)).all(axis=1).to_numpy()
        table = _means(cells, chosen, spec)
        for place, name in enumerate(of):
            table.insert(place, name, key[place])
        tables.append(table)
    if not tables:
        return cells.about.assign(edit="", kind="", reward_to_go=0.0, rho=np.nan).iloc[:0]
    joined = pd.concat(tables, ignore_index=True)
    return joined.astype({"edit": "category", "kind": "category"})


def _important(cells: _Cells, edits: list[str], spec: PathPatchingSpec) -> pd.DataFrame:
    """The strongest cells of each edit over all its pairs, each with its controls.

    ``control``: mean rho of the same cell with activations from unrelated layouts. ``above``: share of the
    cells with the same kind of receiver whose |rho| is smaller: what a random edge would bring.
    """
    tables = []
    single = (cells.about["position"] >= 0).to_numpy()
    counted = single if single.any() else ~single
    for edit in edits:
        of_edit = (cells.pairs["edit"] == edit).to_numpy()
        own, control = (
            _means(cells, of_edit & (cells.pairs["kind"] == kind).to_numpy(), spec)
            for kind in (EDIT, DONOR)
        )
        own["control"] = control["rho"]
        own = own[counted & own["rho"].notna()].copy()
        size = own["rho"].abs()
        own["above"] = size.groupby(own["input"], observed=True).rank(method="min", pct=True)
        own = own.loc[size.sort_values(ascending=False, kind="stable").index[:LISTED]]
        own.insert(0, "edit", edit)
        tables.append(own)
    return pd.concat(tables, ignore_index=True)


def _random_95(cells: _Cells, edits: list[str]) -> dict[tuple[str, str], float]:
    """For each edit and kind of receiver the |rho| that 95% of its cells stay under."""
    single = (cells.about["position"] >= 0).to_numpy()
    counted = single if single.any() else ~single
    limits = {}
    for edit in edits:
        chosen = ((cells.pairs["edit"] == edit) & (cells.pairs["kind"] == EDIT)).to_numpy()
        rho = cells.rho[:, chosen]
        for kind in sorted(set(cells.about["input"])):
            of_kind = rho[counted & (cells.about["input"] == kind).to_numpy()]
            size = np.abs(of_kind[np.isfinite(of_kind)])
            limits[edit, kind] = float(np.quantile(size, 0.95)) if len(size) else np.nan
    return limits


def _strongest(cells: _Cells, important: pd.DataFrame, edits: list[str]) -> dict[str, float | None]:
    """Metrics of the strongest edge of each edit, beside its controls."""
    metrics: dict[str, float | None] = {}
    random_95 = _random_95(cells, edits)
    for edit in edits:
        rows = important[important["edit"] == edit]
        if not len(rows):
            metrics[f"{edit}_best_rho"] = None
            continue
        best = rows.iloc[0]
        metrics[f"{edit}_best_rho"] = float(abs(best["rho"]))
        metrics[f"{edit}_control_rho"] = _control(best["control"])
        metrics[f"{edit}_random_95"] = random_95[edit, str(best["input"])]
    return metrics


def _control(rho: float) -> float | None:
    return float(abs(rho)) if np.isfinite(rho) else None


def _claims(important: pd.DataFrame) -> Iterator[Claim]:
    """One claim an edit: its strongest edge brings more than the control there."""
    for edit, rows in important.groupby("edit", sort=False):
        best = next(rows.itertuples())
        yield above_control(str(edit), _place(best), abs(best.rho), _control(best.control))


def _finding(important: pd.DataFrame) -> str:
    """The strongest edges of each edit."""
    parts = []
    for edit, rows in important.groupby("edit", sort=False):
        best = ", ".join(f"{_place(edge)} {edge.rho:.2f}" for edge in rows.head(3).itertuples())
        control = _control(rows.iloc[0]["control"])
        beside = "" if control is None else f" (unrelated layout at the first {control:.2f})"
        parts.append(f"{edit}: {best}{beside}")
    return "; ".join(parts) or "no edge has an effect that could be measured"


def _place(edge: Any) -> str:
    """``embed > L1 H0 v at S1``."""
    read = f" {edge.input}" if edge.input in ("q", "k", "v") else ""
    return f"{edge.sender} > {edge.receiver}{read} at {edge.token}"
