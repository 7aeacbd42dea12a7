"""Patch every node at every token of every pair, and say which edits are carried by which of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import torch

from dtx.analysis.activation_patching.claims import Measured, claims
from dtx.analysis.activation_patching.spec import ActivationPatchingSpec
from dtx.analysis.activation_patching.sweep import NodeSweep
from dtx.analysis.core.donors import Beside, chosen_controls
from dtx.analysis.core.effects import CONDITION, mean_rho, pooled
from dtx.analysis.core.gaps import Condition, Gaps, untrained_gaps
from dtx.analysis.core.patching import (
    distinct_inputs,
    n_missing,
    null_check,
    without_gap,
    worst,
)
from dtx.analysis.core.patching_spec import DONORS, NULL
from dtx.analysis.core.result import Result
from dtx.analysis.core.verdicts import Check
from dtx.dt.model import DecisionTransformerModel
from dtx.pairs.pair_set import PairSet
from dtx.training.threads import one_thread

IDENTITIES = {
    "everything": "patching the embeddings of all tokens brings the whole difference",
    "nothing": "patching no token changes nothing",
    "unchanged": "patching the embeddings of tokens that do not change changes nothing",
}
"""What must come out exactly, by the set of tokens that is patched."""
PLACE = ["layer", "node", "head", "name", "position", "token"]


@torch.inference_mode()
def compute(
    spec: ActivationPatchingSpec, model: DecisionTransformerModel, pairs: PairSet
) -> Result:
    """Patch everything that the settings ask for, in every direction.

    Returns:
        Tables ``patches`` (one row a patch of a pair: change of LD and rho), ``effects`` (means over layouts
        with intervals, by edit, kind, direction, reward-to-go, node and token, and which are beyond 0),
        ``pooled`` (which places may be pooled over reward-to-go, see :mod:`dtx.analysis.core.effects`),
        ``mediation`` (means of several tokens of the stream patched together before each layer), ``sets``
        (several embedded tokens at once) and ``runs`` (one row a pair: its logit differences); array
        ``tokens``, the names of the longest windows' tokens. Metrics ``EDIT_DIRECTION_TARGET_best_rho``
        (the strongest component), ``..._expected_0_rho`` and ``..._expected_1_rho`` (donors without and with
        the source run's answer at the same place).
    """
    parts: dict[str, list[pd.DataFrame]] = {n: [] for n in ("patches", "mediation", "sets", "runs")}
    tokens: list[str] = []
    batches = pairs.batches(model)
    with one_thread():
        untrained = untrained_gaps(model, batches)
        for batch in batches:
            for direction in spec.directions:
                sweep = NodeSweep(
                    model, batch, pairs.min_ld_gap, direction, spec.nodes, spec.at_once
                )
                parts["patches"].append(sweep.patches())
                parts["mediation"].append(sweep.mediation())
                parts["sets"].append(sweep.sets())
            parts["runs"].append(sweep.runs.table())
            tokens = max(tokens, batch.names, key=len)
    tables = {name: pd.concat(each, ignore_index=True) for name, each in parts.items()}
    tables["effects"] = mean_rho(tables["patches"], [*CONDITION, *PLACE])
    tables["pooled"] = pooled(tables["patches"], ["edit", "direction", *PLACE])
    tables["mediation"] = mean_rho(tables["mediation"], [*CONDITION, "layer", "set"])
    gaps = Gaps.of(tables["runs"], pairs.min_ld_gap, untrained)
    measured = Measured(tables, gaps, spec.directions)
    edits = list(pairs.about["edits"])
    best = dict(_strongest(measured, edits))
    null = worst(_null_change(tables[name]) for name in ("patches", "sets"))
    return Result(
        finding=_finding(measured, best, edits),
        metrics={
            "null_change": null,
            "n_missing": n_missing(tables["runs"]),
            **_metrics(best, gaps),
        },
        checks=[*_identities(tables, spec.tolerance), null_check(null, spec.tolerance)],
        controls=chosen_controls(best.values()),
        claims=list(claims(measured, edits)),
        tables=tables,
        arrays={"tokens": np.array(tokens)},
        distinct_inputs=distinct_inputs(tables["runs"]),
        problems=without_gap(tables["runs"]),
    )


def _identities(tables: Mapping[str, pd.DataFrame], tolerance: float) -> list[Check]:
    """The exact checks, unless the runs of no pair differ enough for a rho."""
    sets = tables["sets"]
    # A rho that is missing although something was computed is an error that is no number.
    known = sets[sets["expected"].notna() & (sets["rho"].notna() | sets["change"].isna())]
    if known.empty and without_gap(tables["runs"]):
        return []
    error = (known["rho"] - known["expected"]).abs()
    return [
        Check(name=words, error=worst(error[known["set"] == name]), tolerance=tolerance)
        for name, words in IDENTITIES.items()
    ]


def _null_change(table: pd.DataFrame) -> float | None:
    """Largest change of LD by a patch within a null pair; None without one."""
    return worst(table.loc[table["kind"] == NULL, "change"].abs())


def _strongest(measured: Measured, edits: list[str]) -> Iterator[tuple[Condition, Beside]]:
    """The strongest component of each edit where its runs differ, beside its donors."""
    for edit in edits:
        for condition in measured.conditions(edit):
            best = measured.strongest(condition) if measured.gaps.there(condition) else None
            if best is not None:
                yield condition, best


def _metrics(best: Mapping[Condition, Beside], gaps: Gaps) -> dict[str, float | None]:
    metrics: dict[str, float | None] = {}
    for (edit, target), size in gaps.size.items():
        metrics[f"{edit}_{target:g}_gap"] = size.value
    for condition, beside in best.items():
        name = f"{condition.edit}_{condition.direction.value}_{condition.target:g}"
        metrics[f"{name}_best_rho"] = beside.own.value
        for kind in DONORS:
            expected = condition.direction.expected(kind.removeprefix("donor_"))
            donor = beside.donors.get(kind)
            metrics[f"{name}_expected_{expected}_rho"] = donor.value if donor else None
    return metrics


def _finding(measured: Measured, best: Mapping[Condition, Beside], edits: list[str]) -> str:
    """Where most of each edit's effect lies, by direction and reward-to-go; the kind of interval once."""
    parts = []
    for edit in edits:
        of_edit = [c for c in best if c.edit == edit]
        if not of_edit:
            parts.append(f"{edit}: {measured.gaps.words(edit)}")
        for direction in dict.fromkeys(c.direction for c in of_edit):
            here = [best[c] for c in of_edit if c.direction is direction]
            parts.append(f"{edit} ({direction.value}): {_by_target(measured, here)}")
    kinds = dict.fromkeys(each.own.kind for each in best.values())
    return "; ".join(parts) + (f" ({', '.join(kinds)})" if kinds else "")


def _by_target(measured: Measured, strongest: list[Beside]) -> str:
    """``L1H3 z at S5 restores 0.84 at RTG 0.892 and 0.18 at RTG 0 (...), carries the answer``."""
    first, said = strongest[0], []
    for each in strongest:
        own = measured.own(each.condition)
        here = own[(own["name"] + " at " + own["token"]) == first.place]
        value = f"{here['rho'].iloc[0]:.2f}" if len(here) else "not measured"
        most = (
            "" if each.place == first.place else f" (most there: {each.place} {each.own.value:.2f})"
        )
        said.append(f"{value} at RTG {each.condition.target:g}{most}")
    carries = first.carries()
    return f"{first.place} restores {' and '.join(said)}, " + (
        f"carries {carries}" if carries else "no larger than its control"
    )
