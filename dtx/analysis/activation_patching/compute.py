"""Patch every node at every token of every pair, and say which edits are carried by which of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from dtx.analysis.activation_patching.claims import claims, strongest
from dtx.analysis.activation_patching.spec import ActivationPatchingSpec
from dtx.analysis.activation_patching.sweep import NodeSweep
from dtx.analysis.core.patching import (
    distinct_inputs,
    mean_rho,
    n_missing,
    null_check,
    without_gap,
    worst,
)
from dtx.analysis.core.patching_spec import NULL
from dtx.analysis.core.result import Check, Result
from dtx.dt.model import DecisionTransformerModel
from dtx.pairs.pair_set import PairSet
from dtx.training.threads import one_thread

IDENTITIES = {
    "everything": "patching the embeddings of all tokens brings the whole difference",
    "nothing": "patching no token changes nothing",
    "unchanged": "patching the embeddings of tokens that do not change changes nothing",
}
"""What must come out exactly, by the set of tokens that is patched."""


@torch.inference_mode()
def compute(
    spec: ActivationPatchingSpec, model: DecisionTransformerModel, pairs: PairSet
) -> Result:
    """Patch everything that the settings ask for.

    Returns:
        Tables ``patches`` (one row a patch of a pair: change of LD and rho), ``effects`` (means over pairs
        with intervals), ``sets`` (several embedded tokens at once) and ``runs`` (one row a pair: its logit
        differences); array ``tokens``, the names of the longest windows' tokens. Metrics ``EDIT_best_rho``
        and ``EDIT_control_rho``: the strongest component of an edit, and its control at the same place.
    """
    parts: dict[str, list[pd.DataFrame]] = {"patches": [], "sets": [], "runs": []}
    tokens: list[str] = []
    with one_thread():
        for batch in pairs.batches(model):
            sweep = NodeSweep(spec, model, batch, pairs.min_ld_gap)
            parts["patches"].append(sweep.patches())
            parts["sets"].append(sweep.sets())
            parts["runs"].append(sweep.runs.table())
            tokens = max(tokens, batch.names, key=len)
    tables = {name: pd.concat(each, ignore_index=True) for name, each in parts.items()}
    tables["effects"] = effects(tables["patches"], spec.resamples, spec.seed)
    null = worst(_null_change(tables[name]) for name in ("patches", "sets"))
    edits = list(pairs.about["edits"])
    return Result(
        finding=_finding(tables["effects"]),
        metrics={
            "null_change": null,
            "n_missing": n_missing(tables["runs"]),
            **_best(tables["effects"], edits),
        },
        checks=[*_identities(tables, spec.tolerance), null_check(null, spec.tolerance)],
        claims=claims(tables),
        tables=tables,
        arrays={"tokens": np.array(tokens)},
        distinct_inputs=distinct_inputs(tables["runs"]),
        problems=without_gap(tables["runs"]),
    )


def effects(patches: pd.DataFrame, resamples: int, seed: int) -> pd.DataFrame:
    """Mean rho over pairs with a bootstrap interval, by edit, control, reward-to-go, node and token."""
    by = ["edit", "kind", "reward_to_go", "layer", "node", "head", "name", "position", "token"]
    return mean_rho(patches, by, resamples, seed)


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


def _best(table: pd.DataFrame, edits: list[str]) -> dict[str, float | None]:
    metrics: dict[str, float | None] = {}
    for edit in edits:
        best = strongest(table, edit)
        metrics[f"{edit}_best_rho"] = best.rho if best else None
        metrics[f"{edit}_control_rho"] = best.control if best else None
    return metrics


def _finding(table: pd.DataFrame) -> str:
    """Where most of each edit's effect lies before the last layer's end."""
    parts = []
    for edit in table["edit"].drop_duplicates():
        best = strongest(table, edit)
        if best is None:
            parts.append(f"{edit}: the runs differ by less than the gap")
            continue
        beside = "" if best.control is None else f" (unrelated layout {best.control:.2f})"
        parts.append(f"{edit}: most by {best.place}, rho {best.rho:.2f}{beside}")
    return "; ".join(parts)
