"""Score answers against the truth, and hold the scores against the gates."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dtx.analysis.scorecard import Cell, Scorecard
from dtx.analysis.scorecard.answers import Subject, answers
from dtx.report import read_metrics
from dtx.statistics import bootstrap

T0, T1, T4 = "T0", "T1", "T4"
BY_AUROC = ("activation_patching", "attribution_patching", "path_patching")
"""C2 and C3, C4, C5: whose ranking of nodes and edges a trained circuit is a test of."""
FIRST_ORDER = ("attribution_patching", "eap")
"""Estimates by one gradient, 0 where a ReLU is flat in the base run: scored, but held to nothing."""
ESTIMATES = "attribution_patching"
"""What integrates gradients passes through states in which neither run is: half way between two instructions
a head is silent and its backup speaks. Not exact by its nature, so held to its ranking, as on T1."""
IDENTITIES = ("/identity_error", "/null_change", "/self_change")
"""Headline numbers that are exact checks: what a null pair, or a node's own value, changes is one, too."""


@dataclass
class Found:
    """What was scored.

    Attributes:
        scores: One row a model, analysis, part and measure: value, its interval, how many cells it is of,
            distinct inputs of the analysis.
        answers: Every scored answer of every analysis.
        gates: One row a gate, model and analysis: wanted, found, holds.
        headline: ``scorecard/*`` scalars.
    """

    scores: pd.DataFrame
    answers: pd.DataFrame
    gates: pd.DataFrame
    headline: dict[str, float | None]


def measure(stage: Scorecard) -> Found:
    """Read every cell's tables and judge them."""
    parts, scores, identities = [], [], []
    for cell in stage.cells:
        subject = subject_of(stage, cell)
        said = answers(cell.analysis, subject)
        kind = kind_of(stage, cell.model)
        about = {"model": cell.model, "kind": kind, "analysis": cell.analysis}
        parts.append(said.assign(**about))
        n = read_metrics(subject.folder)
        distinct = next((v for k, v in n.items() if k.endswith("/distinct_inputs")), None)
        for row in _identity(stage, cell, n):
            identities.append({**about, **row})
            scores.append({**about, "part": "", "distinct_inputs": distinct, **row})
        for part, mine in said.groupby("part", sort=False):
            for row in score(mine, stage.positive, stage.resamples, stage.seed):
                scores.append({**about, "part": part, "distinct_inputs": distinct, **row})
    table = pd.DataFrame(scores)
    gates = pd.DataFrame(
        list(_gates(stage, table, identities)),
        columns=["gate", "model", "analysis", "wanted", "found", "holds"],
    )
    return Found(table, pd.concat(parts, ignore_index=True), gates, _headline(stage, table, gates))


def subject_of(stage: Scorecard, cell: Cell) -> Subject:
    """A cell with what is known of its model."""
    known, negative = stage.known.get(cell.model), stage.negatives.get(cell.model)
    return Subject(
        stage=cell.stage,
        folder=cell.stage.path,
        circuit=known.circuit() if known else None,  # type: ignore[attr-defined]
        wrong=negative.wrong if negative else None,
        positive=stage.positive,
    )


def kind_of(stage: Scorecard, model: str) -> str:
    """T0: compiled, T1: trained to a circuit, T4: negative."""
    if model in stage.negatives:
        return T4
    return T0 if stage.known[model].circuit().kind == "planted" else T1  # type: ignore[attr-defined]


def score(said: pd.DataFrame, positive: float, resamples: int, seed: int) -> Iterator[dict]:
    """Measures of answers that have a label.

    ``error``: largest deviation from an exactly known score. ``recall``: share of what is in the circuit that
    was found. ``auroc``: of what is in the circuit over what is not, by size. ``position``: share of the
    nodes and edges with one right token that are strongest there. ``false_positives``: share of what is not
    in the circuit that was found.
    """
    said = said.dropna(subset=["label", "score"]).reset_index(drop=True)
    size, true = np.abs(said["score"].to_numpy()), said["label"].to_numpy() == 1
    found = size >= positive
    error = np.abs(said["score"].to_numpy() - said["expected"].to_numpy(dtype=float))
    parts = set(said["part"])
    if np.isfinite(error).any():
        yield _row("error", float(np.nanmax(error)), int(np.isfinite(error).sum()))
    place = "where" in parts
    if true.any() and not place:
        yield _share("recall", found[true], resamples, seed)
    if true.any() and not true.all():
        if not place and parts != {"claims"}:
            yield _row("auroc", auroc(size[true], size[~true]), len(said))
        right = list(_positions(said.assign(size=size)))
        if right:
            yield _share("position", np.array(right), resamples, seed)
    if not true.all() and not place:
        yield _share("false_positives", found[~true], resamples, seed)


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Probability that something in the circuit is larger than something that is not; ties count half."""
    rank = pd.Series(np.concatenate([inside, outside])).rank().to_numpy()[: len(inside)]
    a, b = len(inside), len(outside)
    return float((rank.sum() - a * (a + 1) / 2) / (a * b))


def _positions(said: pd.DataFrame) -> Iterator[float]:
    """Of each node or edge whose tokens are told apart: whether its strongest token is a right one."""
    single = said[said["position"] >= 0]
    for _, mine in single.groupby(["edit", "what"], sort=False):
        label, size = mine["label"].to_numpy(), mine["size"].to_numpy()
        if len(mine) > 1 and (label == 1).any():
            yield float(label[size.argmax()])


def _share(measure: str, values: np.ndarray, resamples: int, seed: int) -> dict:
    numbers = values.astype(float)
    low, high = bootstrap(numbers, resamples, seed) if len(numbers) > 1 else (np.nan, np.nan)
    return {**_row(measure, float(numbers.mean()), len(numbers)), "low": low, "high": high}


def _row(measure: str, value: float, cells: int) -> dict:
    return {"measure": measure, "value": value, "low": np.nan, "high": np.nan, "cells": cells}


def _identity(stage: Scorecard, cell: Cell, n: dict[str, float | None]) -> Iterator[dict]:
    """The exact check of an analysis, beside how large it may be by its own word."""
    for name, value in n.items():
        if name.endswith(IDENTITIES):
            shown = np.nan if value is None else value
            allowed = tolerance(stage, cell.stage)
            yield {**_row("identity", shown, 1), "check": name, "tolerance": allowed}


def tolerance(stage: Scorecard, analysis: Any) -> float:
    """What an analysis itself allows its exact check."""
    if hasattr(analysis, "tolerance"):
        return analysis.tolerance
    return getattr(importlib.import_module(type(analysis).__module__), "TOLERANCE", stage.tolerance)


# --- gates -----------------------------------------------------------------------------------------------


def _gates(stage: Scorecard, scores: pd.DataFrame, identities: list[dict]) -> Iterator[tuple]:
    for row in identities:
        if np.isnan(row["value"]) and row["kind"] == T4:
            continue  # nothing to measure there: the runs of no pair differ
        wanted = f"{row['check']} at most {row['tolerance']:g}"
        holds = bool(row["value"] <= row["tolerance"])
        yield "identities", row["model"], row["analysis"], wanted, f"{row['value']:.2g}", holds
    keys = ["kind", "model", "analysis"]
    for (kind, model, analysis), mine in scores.groupby(keys, sort=False):  # type: ignore[misc]
        if kind == T0:
            yield from _exact(stage, str(model), str(analysis), mine)
        if kind == T1 and analysis in BY_AUROC:
            worst = mine[mine["measure"] == "auroc"].sort_values("value")
            found = "; ".join(f"{r.part} {r.value:.3f}" for r in worst.itertuples())
            holds = len(worst) > 0 and bool(worst["value"].min() >= stage.least_auroc)
            wanted = f"AUROC at least {stage.least_auroc:g}"
            yield "T1 AUROC", model, analysis, wanted, found or "none measured", holds
        if kind == T4:
            wrong = mine[mine["measure"] == "false_positives"]
            if not len(wrong):
                continue
            # Of an analysis as a whole: the parts of one with few cells say little each.
            cells = wrong["cells"].sum()
            rate = float((wrong["value"] * wrong["cells"]).sum() / cells)
            parts = ", ".join(
                f"{r.part} {r.value:.1%} of {r.cells:.0f}" for r in wrong.itertuples() if r.part
            )
            found = f"{rate:.1%} of {cells:.0f}" + (f" ({parts})" if len(wrong) > 1 else "")
            holds = rate <= stage.most_false_positives
            wanted = f"at most {stage.most_false_positives:.0%} found"
            yield "T4 false positives", model, analysis, wanted, found, holds


def _exact(stage: Scorecard, model: str, analysis: str, mine: pd.DataFrame) -> Iterator[tuple]:
    """T0: all of the circuit, nothing else, at its tokens, and scores as compiled; estimates as in T1."""
    allowed = stage.known[model].circuit().tolerance  # type: ignore[attr-defined]
    best = {"error": allowed, "recall": 1.0, "auroc": 1.0, "position": 1.0, "false_positives": 0.0}
    wanted = f"error at most {allowed:g}, all found at the right token, nothing else"
    if analysis == ESTIMATES:
        few = stage.most_false_positives
        best = {"auroc": stage.least_auroc, "false_positives": few}
        wanted = f"AUROC at least {stage.least_auroc:g}, at most {few:.0%} else"
    scored = mine[mine["measure"].isin(list(best)) & ~mine["part"].isin(FIRST_ORDER)]
    if not len(scored):
        return
    missed = []
    for r in scored.itertuples():
        value, want = float(r.value), best[str(r.measure)]  # type: ignore[arg-type]
        good = value <= want if r.measure in ("error", "false_positives") else value >= want
        if not good:
            missed.append(f"{f'{r.part} ' if r.part else ''}{r.measure} {value:.3g}")
    yield "T0 exact", model, analysis, wanted, "; ".join(missed) or "exact", not missed


def _headline(
    stage: Scorecard, scores: pd.DataFrame, gates: pd.DataFrame
) -> dict[str, float | None]:
    def worst(kind: str, measure: str, largest: bool, of: tuple[str, ...] = ()) -> float | None:
        mine = scores[(scores["kind"] == kind) & (scores["measure"] == measure)]
        mine = mine[mine["analysis"].isin(of)] if of else mine
        mine = mine[~mine["part"].isin(FIRST_ORDER)] if kind == T0 else mine
        values = mine["value"].dropna()
        return None if not len(values) else float(values.max() if largest else values.min())

    numbers: dict[str, float | None] = {
        "scorecard/models": float(scores["model"].nunique()),
        "scorecard/analyses": float(scores["analysis"].nunique()),
        "scorecard/gates": float(len(gates)),
        "scorecard/gates_failed": float((~gates["holds"]).sum()),
        "scorecard/t0_recall": worst(T0, "recall", False),
        "scorecard/t0_position": worst(T0, "position", False),
        "scorecard/t0_error": worst(T0, "error", True),
        "scorecard/t1_auroc": worst(T1, "auroc", False, BY_AUROC),
        "scorecard/t4_false_positives": worst(T4, "false_positives", True),
    }
    for gate, mine in gates.groupby("gate", sort=False):
        name = str(gate).lower().replace(" ", "_")
        numbers[f"scorecard/{name}_held"] = float(mine["holds"].mean())
    return numbers
