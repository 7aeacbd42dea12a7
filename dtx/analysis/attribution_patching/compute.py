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
    INTEGRATED,
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
from dtx.analysis.core.result import Result, finite
from dtx.analysis.core.verdicts import MINIMUM, About, Check, Claim, Relation, Verdict
from dtx.dt import paths
from dtx.dt.model import DecisionTransformerModel
from dtx.pairs.pair_set import PairBatch, PairSet
from dtx.training.threads import one_thread


def compute(
    spec: AttributionPatchingSpec, model: DecisionTransformerModel, pairs: PairSet
) -> Result:
    """Estimate, patch exactly, compare.

    Returns:
        Tables ``nodes`` and ``edges`` (one row a pair and node or edge, with ``exact`` and every estimate),
        ``estimated_edges`` (means over pairs of all edges at each token), ``agreement`` (each method beside
        exact values, by edit and reward-to-go) and ``runs``; without edges if ``spec.edges`` is 0. A claim
        for each method. Metrics ``METHOD_least_r`` (the lowest over edits and rewards-to-go),
        ``METHOD_EDIT_TARGET_r`` and ``convergence_error`` (how far a sum of integrated gradients is from the
        difference of both ends, as a share of rho).
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
    compared = agreement(tables, spec.top, spec.direction, spec.seed)
    tables["agreement"] = compared
    integrated, edge_sum, derivative = (worst(each[i] for each in errors) for i in range(3))
    metrics: dict[str, float | None] = {
        "convergence_error": integrated,
        "derivative_error": derivative,
        "edge_sum_error": edge_sum,
        "null_change": null,
        "most_steps": most_steps,
        "n_missing": n_missing(tables["runs"]),
        **_agreement_metrics(compared),
    }
    problems = without_gap(tables["runs"])
    checks = [null_check(null, EXACT)]
    if not problems:
        checks += _identities(spec, derivative, edge_sum)
    return Result(
        finding=_finding(spec, compared, integrated),
        metrics=metrics,
        checks=checks,
        claims=list(claims(compared, _converged(spec, integrated))),
        tables=tables,
        distinct_inputs=distinct_inputs(tables["runs"]),
        about=About.INSTRUMENT,
        problems=problems,
    )


def _exact(
    spec: AttributionPatchingSpec,
    model: DecisionTransformerModel,
    batch: PairBatch,
    gap: float,
) -> pd.DataFrame:
    """Exact patches of the same nodes: pair, name, position, ``exact`` (rho)."""
    sweep = NodeSweep(model, batch, gap, spec.direction, spec.nodes, spec.at_once)
    patches = sweep.patches()
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
    spec: AttributionPatchingSpec, derivative: float | None, edge_sum: float | None
) -> list[Check]:
    words = (
        "estimates by the gradient add up, in every layer, to a difference quotient of patched runs"
    )
    checks = [Check(name=words, error=derivative, tolerance=spec.tolerance)]
    if spec.edges:
        words = "the estimates of a sender's edges add up to that of the sender"
        checks.append(Check(name=words, error=edge_sum, tolerance=EXACT))
    return checks


def _converged(spec: AttributionPatchingSpec, error: float | None) -> bool:
    """Whether integrated gradients took steps enough; where not, they say nothing."""
    return error is not None and error <= spec.convergence


def _compared(table: pd.DataFrame) -> pd.DataFrame:
    """Agreement over all nodes or edges, where enough layouts have a gap."""
    enough = (table["group"] == "all") & table["r"].notna() & (table["n"] >= MINIMUM)
    return pd.DataFrame(table[enough])


def _agreement_metrics(table: pd.DataFrame) -> dict[str, float | None]:
    """Each method's r by edit and reward-to-go, and the lowest of them."""
    whole = _compared(table)
    metrics = {
        f"{row['method']}_{row['edit']}_{row['reward_to_go']:g}_r": finite(row["r"])
        for row in whole.to_dict("records")
    }
    for method, rows in whole.groupby("method", sort=False):
        metrics[f"{method}_least_r"] = finite(rows["r"].min())
    return metrics


def _finding(spec: AttributionPatchingSpec, table: pd.DataFrame, integrated: float | None) -> str:
    """Each method's r with exact patching: the lowest and the highest over edits and rewards-to-go."""
    parts = []
    for part, methods in PARTS.items():
        known = []
        for method, words in methods.items():
            rows = _compared(table)
            rows = rows[rows["method"] == method]
            if len(rows):
                low, high = rows.loc[rows["r"].idxmin()], rows.loc[rows["r"].idxmax()]
                known.append(f"{words} {_r(low)} ({_where(low)}) to {_r(high)} ({_where(high)})")
        if known:
            parts.append(f"{part}: {', '.join(known)}")
    said = f"r with exact patching ({spec.direction.value}): " + (
        "; ".join(parts) or "nothing to compare"
    )
    if parts and not _converged(spec, integrated):
        off = (
            "not measured"
            if integrated is None
            else f"off by {integrated:.2g} of the logit difference"
        )
        said += f"; integrated gradients have not converged in {spec.most_steps} steps ({off})"
    return said


def _r(row: Mapping) -> str:
    """``0.98 [0.97, 0.99]``."""
    if not np.isfinite(row["low"]):
        return f"{row['r']:.2f}"
    return f"{row['r']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"


def _where(row: Mapping) -> str:
    return f"{row['edit']} at RTG {row['reward_to_go']:g}"


def claims(table: pd.DataFrame, converged: bool) -> Iterator[Claim]:
    """One claim a method: it agrees with exact patching by more than its two controls, wherever it was asked.

    Args:
        table: Of :func:`dtx.analysis.attribution_patching.agreement.agreement`.
        converged: Whether integrated gradients took steps enough.
    """
    for method, words in {**NODE_METHODS, **EDGE_METHODS}.items():
        rows = _compared(table)
        rows = rows[rows["method"] == method]
        if not len(rows):
            continue
        judged = [_agrees(row) for row in rows.to_dict("records")]
        verdict = Verdict.judge(judged)
        if any(judged) and verdict is not Verdict.CONFIRMED:
            verdict = Verdict.DEPENDS
        if method in INTEGRATED and not converged:
            verdict = Verdict.NOT_ESTABLISHED
        yield Claim(
            id=f"{method}_agrees",
            text=f"{words} agrees with exact patching",
            criterion="at every edit and reward-to-go the interval of r over layouts lies above that of "
            "random pairings, and above r of estimates for unrelated layouts with the base run's answer",
            evidence="; ".join(_said(row) for row in rows.to_dict("records"))
            + ("" if converged or method not in INTEGRATED else "; not converged"),
            verdict=verdict,
            about=About.INSTRUMENT,
        )


def _agrees(row: Mapping) -> bool | None:
    against = [row["random_high"]] + ([row["donor_r"]] if np.isfinite(row["donor_r"]) else [])
    ends = (row["low"], row["high"])
    conditions = [Relation.ABOVE.decides(ends, float(x)) for x in against]
    if not np.isfinite(row["random_high"]):
        return None
    judged = Verdict.judge(conditions)
    return None if judged is Verdict.NOT_DECIDED else judged is Verdict.CONFIRMED


def _said(row: Mapping) -> str:
    random = row["random_high"]
    beside = "not measured" if not np.isfinite(random) else f"up to {random:.2f}"
    donor = row["donor_r"]
    donors = "" if not np.isfinite(donor) else f", unrelated layouts {donor:.2f}"
    return f"{_where(row)}: r {_r(row)} ({row['interval']}), random pairings {beside}{donors}"
