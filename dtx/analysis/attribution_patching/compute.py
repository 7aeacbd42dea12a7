"""Estimate all nodes and edges of all pairs, patch some exactly, and compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import torch

from dtx.analysis.activation_patching.sweep import NodeSweep
from dtx.analysis.attribution_patching.agreement import agreement
from dtx.analysis.attribution_patching.estimates import Estimates, draw_edges
from dtx.analysis.attribution_patching.spec import (
    EDGE_METHODS,
    EXACT,
    NODE_METHODS,
    PARTS,
    AttributionPatchingSpec,
)
from dtx.analysis.core.patching import (
    distinct_inputs,
    n_missing,
    null_check,
    without_gap,
    worst,
)
from dtx.analysis.core.patching_spec import NULL
from dtx.analysis.core.result import About, Check, Claim, Result, Verdict, finite
from dtx.dt import paths
from dtx.dt.model import DecisionTransformerModel
from dtx.pairs.pair_set import PairBatch, PairSet
from dtx.training.threads import one_thread

METRICS = {
    "r": "r", "low": "r_low", "high": "r_high", "random_high": "random_r_high",
    "donor_r": "donor_r", "spearman": "spearman", "sign": "sign_agreement",
    "error": "mean_absolute_error", "overlap": "top_overlap",
}  # fmt: skip
"""Columns of the table ``agreement`` that are metrics of each method, over all edits and kinds of nodes."""


def compute(
    spec: AttributionPatchingSpec, model: DecisionTransformerModel, pairs: PairSet
) -> Result:
    """Estimate, patch exactly, compare.

    Returns:
        Tables ``nodes`` and ``edges`` (one row a pair and node or edge, with ``exact`` and every estimate),
        ``estimated_edges`` (means over pairs of all edges at each token), ``agreement`` (each method beside
        exact values) and ``runs``; without edges if ``spec.edges`` is 0. A claim for each method.
    """
    rng = np.random.default_rng([spec.seed, 1])
    drawn = draw_edges(paths.edges(model.cfg), spec.edges, rng)
    parts: dict[str, list[pd.DataFrame]] = {
        name: [] for name in ("nodes", "edges", "estimated_edges", "runs")
    }
    errors, most_steps = [], 0
    with one_thread(), torch.no_grad():
        for batch in pairs.batches(model):
            estimates = Estimates(spec, model, batch, pairs.min_ld_gap)
            exact = _exact(spec, model, batch, pairs.min_ld_gap)
            parts["nodes"].append(_beside(estimates.nodes(), exact))
            parts["runs"].append(estimates.runs.table())
            if spec.edges:
                parts["edges"].append(estimates.exact_edges(drawn, rng))
                parts["estimated_edges"].append(estimates.mean_edges())
            errors.append(estimates.errors())
            most_steps = max(most_steps, estimates.integration.most_used)
    tables = {name: pd.concat(each, ignore_index=True) for name, each in parts.items() if each}
    null = worst(_null_change(tables[name], PARTS[name]) for name in PARTS if name in tables)
    for name in PARTS:
        if name in tables:
            tables[name] = _without_changes(tables[name])
    tables["agreement"] = agreement(tables, spec.top, spec.resamples, spec.seed)
    integrated, edge_sum = (worst(each[i] for each in errors) for i in range(2))
    metrics: dict[str, float | None] = {
        "edge_sum_error": edge_sum,
        "null_change": null,
        "most_steps": most_steps,
        "n_missing": n_missing(tables["runs"]),
        **_agreement_metrics(tables["agreement"]),
    }
    problems = without_gap(tables["runs"])
    checks = [null_check(null, EXACT)]
    if not problems:
        checks += _identities(spec, integrated, edge_sum)
    return Result(
        finding=_finding(metrics),
        metrics=metrics,
        checks=checks,
        claims=list(_claims(metrics)),
        tables=tables,
        distinct_inputs=distinct_inputs(tables["runs"]),
        problems=problems,
    )


def _exact(
    spec: AttributionPatchingSpec,
    model: DecisionTransformerModel,
    batch: PairBatch,
    gap: float,
) -> pd.DataFrame:
    """Exact patches of the same nodes: pair, name, position, ``exact`` (rho)."""
    patches = NodeSweep(spec, model, batch, gap).patches()
    return patches[["pair", "name", "position", "rho"]].rename(columns={"rho": "exact"})


def _beside(nodes: pd.DataFrame, exact: pd.DataFrame) -> pd.DataFrame:
    by = ["pair", "name", "position"]
    return nodes.merge(exact, on=by, how="left", validate="one_to_one")


def _null_change(table: pd.DataFrame, methods: Mapping[str, str]) -> float | None:
    """Largest estimated change of LD within a null pair; None without one."""
    columns = [f"{method}_change" for method in methods]
    changes = table.loc[table["kind"] == NULL, columns].abs().to_numpy()
    return float(changes.max()) if changes.size else None


def _without_changes(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that have a rho, in units of rho alone."""
    dropped = [c for c in table.columns if c.endswith("_change")]
    return table.loc[table["kind"] != NULL].drop(columns=dropped)


def _identities(
    spec: AttributionPatchingSpec, integrated: float | None, edge_sum: float | None
) -> list[Check]:
    steps = f"in at most {spec.most_steps} steps (most_steps)"
    checks = [
        Check(
            name=f"integrated gradients add up to the difference of both ends, {steps}",
            error=integrated,
            tolerance=spec.tolerance,
        )
    ]
    if spec.edges:
        words = "the estimates of a sender's edges add up to that of the sender"
        checks.append(Check(name=words, error=edge_sum, tolerance=EXACT))
    return checks


def _agreement_metrics(table: pd.DataFrame) -> dict[str, float | None]:
    """Each method's agreement over all edits and kinds."""
    pooled = table[(table["edit"] == "all") & (table["group"] == "all")]
    return {
        f"{row['method']}_{name}": finite(row[column])
        for row in pooled.to_dict("records")
        for column, name in METRICS.items()
    }


def _finding(metrics: Mapping[str, float | None]) -> str:
    """Each method's r with exact patching and its interval."""
    parts = []
    for part, methods in PARTS.items():
        known = [f"{words} {r}" for method, words in methods.items() if (r := _r(metrics, method))]
        if known:
            parts.append(f"{part}: {', '.join(known)}")
    return "r with exact patching: " + ("; ".join(parts) or "nothing to compare")


def _r(metrics: Mapping[str, float | None], method: str) -> str | None:
    """``0.98 [0.97, 0.99]``; None where there is no r."""
    r, low, high = (metrics.get(f"{method}_{name}") for name in ("r", "r_low", "r_high"))
    if r is None:
        return None
    return f"{r:.2f}" if low is None or high is None else f"{r:.2f} [{low:.2f}, {high:.2f}]"


def _claims(metrics: Mapping[str, float | None]) -> Iterator[Claim]:
    """One claim a method: it agrees with exact patching by more than its two controls."""
    for method, words in {**NODE_METHODS, **EDGE_METHODS}.items():
        r = metrics.get(f"{method}_r")
        if r is None:
            continue
        low, random = (metrics[f"{method}_{name}"] for name in ("r_low", "random_r_high"))
        donor = metrics[f"{method}_donor_r"]
        beside = [
            "random pairings not measured" if random is None else f"random pairings {random:.2f}",
            "" if donor is None else f"unrelated layouts {donor:.2f}",
        ]
        above_random = low is not None and random is not None and low > random
        yield Claim(
            id=f"{method}_agrees",
            text=f"{words} agrees with exact patching",
            criterion="the interval of r lies above that of random pairings, and r above that of "
            "estimates with activations from unrelated layouts",
            evidence=f"r {_r(metrics, method)}; " + ", ".join(part for part in beside if part),
            verdict=Verdict.of(above_random and (donor is None or donor < r)),
            about=About.INSTRUMENT,
        )
