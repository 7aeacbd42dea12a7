"""Patch every edge, and summarise: means over pairs, the strongest edges, the exact checks.

Letters: p pairs, n tokens; a cell is an edge at a token, or at all tokens together (position -1).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from dtx.analysis.core.donors import chosen_controls
from dtx.analysis.core.effects import CONDITION, by_layout, discovered, means
from dtx.analysis.core.gaps import Condition, Gaps, untrained_gaps
from dtx.analysis.core.patching import (
    PairRuns,
    distinct_inputs,
    n_missing,
    null_check,
    without_gap,
    worst,
)
from dtx.analysis.core.patching_spec import DONORS, EDIT, NULL
from dtx.analysis.core.result import Result
from dtx.analysis.core.verdicts import Check
from dtx.analysis.path_patching.found import CELL, Found, claim, finding, important, metrics_of
from dtx.analysis.path_patching.identities import IDENTITIES, identities
from dtx.analysis.path_patching.spec import TOGETHER, EdgeTokens, PathPatchingSpec
from dtx.analysis.path_patching.sweep import EdgeSweep, wanted
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.paths import Edge, edges, matters, outputs, patched
from dtx.pairs.pair_set import PairBatch, PairSet
from dtx.progress import progress
from dtx.training.threads import one_thread

NULLS = 2
"""Null pairs of a batch that are swept: a control of the instrument, the same in every pair."""


@torch.inference_mode()
def compute(spec: PathPatchingSpec, model: DecisionTransformerModel, pairs: PairSet) -> Result:
    """Patch every edge that the settings ask for.

    Returns:
        Tables ``edges`` (means over layouts with intervals, by edit, kind, direction and reward-to-go; donors
        at the strongest edges alone), ``important`` (those, beside their donors), ``identities`` (one row a
        check of a pair) and ``runs`` (one row a pair); array ``tokens``, the names of the longest windows'
        tokens. Metrics ``EDIT_DIRECTION_TARGET_best_rho`` of the strongest edge, ``..._expected_0_rho`` and
        ``..._expected_1_rho`` of donors without and with the source run's answer, and ``..._random_95``, the
        rho that 95% of the cells with such a receiver stay under.
    """
    named = list(pairs.about["edits"])
    edits = [name for name in named if spec.edits is None or name in spec.edits]
    batches = [
        batch.where(np.array(batch.table["edit"].isin(edits)) | batch.kind(NULL))
        for batch in pairs.batches(model)
    ]
    swept = _sweep(spec, model, batches, pairs.min_ld_gap)
    tokens = max((batch.names for batch in batches), key=len)
    cells = _cells(edges(model.cfg), swept.rho, swept.table, tokens)
    gaps = Gaps.of(swept.table, pairs.min_ld_gap, untrained_gaps(model, batches))
    found = Found(_effects(cells, spec), swept.table, gaps, spec)
    found = replace(found, effects=_with_donors(model, swept.runs, found, edits))
    best = dict(found.strongest(edits))
    return Result(
        finding=finding(found, best, edits),
        metrics={
            "null_change": swept.null_change,
            "n_missing": n_missing(swept.table),
            **metrics_of(found, best),
        },
        checks=[*_checks(spec, swept), null_check(swept.null_change, spec.tolerance)],
        controls=chosen_controls(best.values()),
        claims=[claim(found, best, edit) for edit in edits],
        tables={
            "edges": found.effects,
            "important": important(found, edits),
            "identities": swept.identities,
            "runs": swept.table,
        },
        arrays={"tokens": np.array(tokens)},
        distinct_inputs=distinct_inputs(swept.table),
        timing=swept.timing,
        problems=without_gap(swept.table),
    )


@dataclass(frozen=True)
class _Swept:
    """rho (edges, n + 1, p) of all pairs, NaN of donors; the last column of tokens is that of all together.

    ``table`` has a row a pair, ``identities`` one a check of a pair, ``runs`` those of each batch.
    """

    rho: np.ndarray
    runs: list[PairRuns]
    table: pd.DataFrame
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
    kept: list[PairRuns] = []
    each = spec.tokens is EdgeTokens.each
    with (
        one_thread(),
        progress("path patching", len(every) * len(batches), "edges") as bar,
    ):
        for batch in batches:
            runs = PairRuns(model, batch, spec.direction, gap, wanted(model.cfg.n_layers))
            begin = time.perf_counter()
            own = runs.measurable & batch.kind(EDIT)
            nulls = np.flatnonzero(batch.kind(NULL))[:NULLS]
            which = own.copy()
            which[nulls] = True
            sweep = EdgeSweep(model, runs, which, spec.at_once, each).run(bar.advance)
            seconds += time.perf_counter() - begin
            computed += sweep.computed
            p, n = batch.changed.shape
            with np.errstate(divide="ignore", invalid="ignore"):
                of_batch = np.where(own, sweep.change / runs.span, np.nan)
            places = _places(every, model, n, each)
            patches += int(places.sum()) * int(which.sum())
            of_batch[~places] = np.nan
            rho[:, :n, done : done + p] = of_batch[:, :-1]
            rho[:, -1, done : done + p] = of_batch[:, -1]
            done += p
            if len(nulls):
                null.append(float(np.abs(sweep.change[..., nulls]).max()))
            kept.append(runs)
            checks.append(identities(spec, model, runs, sweep))
            tables.append(runs.table())
    return _Swept(
        rho=rho,
        runs=kept,
        table=pd.concat(tables, ignore_index=True),
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
    if swept.identities.empty and without_gap(swept.table):
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


def _effects(cells: _Cells, spec: PathPatchingSpec) -> pd.DataFrame:
    """Mean rho of every cell over layouts by edit, kind, direction and reward-to-go."""
    tables = []
    of = ["edit", "kind", "reward_to_go"]
    for key in cells.pairs[of].drop_duplicates().itertuples(index=False):
        if key.kind != EDIT:
            continue
        chosen = (cells.pairs[of] == list(key)).all(axis=1).to_numpy()
        table = means(_by_layout(cells, chosen)).into(cells.about)
        count = np.isfinite(cells.rho[:, chosen]).sum(1)
        table["pairs"], table["missing"] = count, int(chosen.sum()) - count
        where = {"edit": key.edit, "kind": key.kind, "direction": spec.direction.value}
        for place, (name, value) in enumerate({**where, "reward_to_go": key.reward_to_go}.items()):
            table.insert(place, name, value)
        tables.append(table)
    if not tables:
        columns = [*CONDITION, *CELL, "rho", "low", "high", "n", "interval", "p", "pairs", "beyond"]
        return pd.DataFrame(columns=columns)
    joined = pd.concat(tables, ignore_index=True)
    return discovered(joined.astype(dict.fromkeys((*CONDITION[:3], "interval"), "category")))


def _by_layout(cells: _Cells, chosen: np.ndarray) -> np.ndarray:
    """rho (c, k) of the chosen pairs (p,), a mean for each layout."""
    rho = cells.rho[:, chosen]
    layout = cells.pairs.loc[chosen, "variant"].to_numpy(dtype=str)
    if len(set(layout)) == len(layout):  # one pair a layout, as in Memory
        return rho
    code = np.repeat(np.arange(len(rho)), rho.shape[1])
    return by_layout(code, np.tile(layout, len(rho)), rho.ravel(), len(rho))


def _with_donors(
    model: DecisionTransformerModel, runs: list[PairRuns], found: Found, edits: list[str]
) -> pd.DataFrame:
    """The effects, with those of donors at the strongest edges of each edit: one plain patch an edge."""
    tables = [found.effects]
    for condition in (c for edit in edits for c in found.measured(edit)):
        listed = found.listed(condition)
        for kind in DONORS:
            measured = [_donor_rho(model, each, condition, kind, listed) for each in runs]
            layout = np.concatenate([names for names, _ in measured])
            rho = np.concatenate([values for _, values in measured], axis=1)
            if not len(layout) or not len(listed):
                continue
            code = np.repeat(np.arange(len(rho)), rho.shape[1])
            by = by_layout(code, np.tile(layout, len(rho)), rho.ravel(), len(rho))
            table = means(by).into(listed[[*CONDITION, *CELL]]).assign(kind=kind, beyond=False)
            tables.append(table.assign(pairs=len(layout), missing=0))
    joined = pd.concat(tables, ignore_index=True)
    return joined.astype(
        dict.fromkeys((*CONDITION[:3], *CELL[:3], "token", "interval"), "category")
    )


def _donor_rho(
    model: DecisionTransformerModel,
    runs: PairRuns,
    condition: Condition,
    kind: str,
    listed: pd.DataFrame,
) -> tuple[np.ndarray, np.ndarray]:
    """Layouts (p,) of a kind's donors in a batch, and rho (cells, p) of edges patched with theirs."""
    table = runs.batch.table
    here = (table["edit"] == condition.edit) & (table["reward_to_go"] == condition.target)
    row = np.flatnonzero(np.array(here & (table["kind"] == kind)) & runs.measurable)
    layout = table["variant"].to_numpy(dtype=str)[row]
    rho = np.full((len(listed), len(row)), np.nan)
    if not len(row):
        return layout, rho
    index = torch.from_numpy(row)
    context = runs.patched_context(row)
    source = {s: value[index] for s, value in outputs(model, runs.source).items()}
    by_name = {(e.sender.name, e.receiver.name, e.receiver.input): e for e in edges(model.cfg)}
    n = runs.batch.changed.shape[1]
    for i, cell in enumerate(listed.to_dict("records")):
        if cell["position"] >= n:
            continue
        mask = torch.zeros(len(row), n, dtype=torch.bool)
        mask[:, cell["position"] if cell["position"] >= 0 else slice(None)] = True
        edge = by_name[cell["sender"], cell["receiver"], cell["input"]]
        logits = patched(model, context, source, [(edge, mask)])
        ld = runs.batch.difference_of(logits, index).double().numpy()
        rho[i] = (ld - runs.base_ld[row]) / runs.span[row]
    return layout, rho
