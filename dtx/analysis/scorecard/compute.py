"""Score answers against the truth, and hold the scores against the gates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from dtx.analysis.core.answers import COLUMNS, Subject
from dtx.analysis.core.result import CLAIMS, About, Check, Control, Relation, Result
from dtx.analysis.core.scoring import Scoring
from dtx.analysis.scorecard.spec import T0, T1, T4, ScorecardSpec
from dtx.statistics import bootstrap


@dataclass(frozen=True)
class Case:
    """An analysis that was run on a model of which something is known.

    Attributes:
        model: Its name. kind: T0, T1 or T4. analysis: Its name.
        scoring: What the analysis is held to.
        subject: Its result, and what is known of the model.
        answers: What it answered, beside what is true; see core/answers.py.
    """

    model: str
    kind: str
    analysis: str
    scoring: Scoring
    subject: Subject
    answers: pd.DataFrame


GATES = ("identities", "T0 exact", "T1 AUROC", "T4 false positives")


def compute(spec: ScorecardSpec, cases: Sequence[Case]) -> Result:
    """Score every answer, and hold the scores against the gates.

    Returns:
        Tables ``scores``: one row a model, analysis, part and measure: value, its interval, how many cells
        it is of, distinct inputs of the analysis. ``answers``: every scored answer. ``gates``: one row a
        gate, model and analysis: wanted, found, holds.
    """
    parts, rows = [], []
    for case in cases:
        about = {"model": case.model, "kind": case.kind, "analysis": case.analysis}
        parts.append(case.answers.assign(**about))
        distinct = case.subject.result.distinct_inputs
        for check in _checks(case):
            row = {**_row("identity", np.nan if check.error is None else check.error, 1), **about}
            rows.append(
                {**row, "part": "", "distinct_inputs": distinct, "tolerance": check.tolerance}
            )
        for part, answers in case.answers.groupby("part", sort=False):
            for row in score(answers, spec.positive, spec.resamples, spec.seed):
                rows.append({**about, "part": part, "distinct_inputs": distinct, **row})
    scores = pd.DataFrame(rows)
    gates = [gate for case in cases for gate in _gates(spec, case, _of(scores, case))]
    table = pd.DataFrame([gate.row for gate in gates], columns=list(Gate.COLUMNS))
    checks = [gate.decides for gate in gates if isinstance(gate.decides, Check)]
    answers = [part for part in parts if len(part)]
    return Result(
        finding=_finding(table),
        metrics=_metrics(spec, cases, scores, table),
        checks=checks,
        controls=[gate.decides for gate in gates if isinstance(gate.decides, Control)],
        tables={
            "scores": scores,
            "answers": pd.concat(answers, ignore_index=True)
            if answers
            else pd.DataFrame(columns=[*COLUMNS, "model", "kind", "analysis"]),
            "gates": table,
        },
        about=About.INSTRUMENT,
    )


@dataclass(frozen=True)
class Gate:
    """What one analysis of one model is held to.

    Attributes:
        decides: The check or the control that holds or does not.
    """

    COLUMNS: ClassVar = ("gate", "model", "analysis", "wanted", "found", "holds")

    gate: str
    model: str
    analysis: str
    wanted: str
    found: str
    decides: Check | Control

    @property
    def row(self) -> tuple:
        """Of the table."""
        shown = (self.gate, self.model, self.analysis, self.wanted, self.found)
        return (*shown, self.decides.holds)


def _of(scores: pd.DataFrame, case: Case) -> pd.DataFrame:
    chosen = (scores["model"] == case.model) & (scores["analysis"] == case.analysis)
    return scores.loc[chosen]


def _checks(case: Case) -> Iterator[Check]:
    """The analysis' own exact checks, those that could be measured in a negative."""
    for check in case.subject.result.checks:
        if case.kind != T4 or check.error is not None:
            yield check


def score(answers: pd.DataFrame, positive: float, resamples: int, seed: int) -> Iterator[dict]:
    """Measures of answers that have a label.

    ``error``: largest deviation from an exactly known score. ``recall``: share of what is in the circuit that
    was found. ``auroc``: of what is in the circuit over what is not, by size. ``position``: share of the
    nodes and edges with one right token that are strongest there. ``false_positives``: share of what is not
    in the circuit that was found.
    """
    answers = answers.dropna(subset=["label", "score"]).reset_index(drop=True)
    size, true = np.abs(answers["score"].to_numpy()), answers["label"].to_numpy() == 1
    positives = size >= positive
    error = np.abs(answers["score"].to_numpy() - answers["expected"].to_numpy(dtype=float))
    parts = set(answers["part"])
    if np.isfinite(error).any():
        yield _row("error", float(np.nanmax(error)), int(np.isfinite(error).sum()))
    place = "where" in parts
    if true.any() and not place:
        yield _share("recall", positives[true], resamples, seed)
    if true.any() and not true.all():
        if not place and parts != {CLAIMS}:
            yield _row("auroc", auroc(size[true], size[~true]), len(answers))
        right = list(_positions(answers.assign(size=size)))
        if right:
            yield _share("position", np.array(right), resamples, seed)
    if not true.all() and not place:
        yield _share("false_positives", positives[~true], resamples, seed)


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Probability that something in the circuit is larger than something that is not; ties count half."""
    rank = pd.Series(np.concatenate([inside, outside])).rank().to_numpy()[: len(inside)]
    a, b = len(inside), len(outside)
    return float((rank.sum() - a * (a + 1) / 2) / (a * b))


def _positions(answers: pd.DataFrame) -> Iterator[float]:
    """Of each node or edge whose tokens are told apart: whether its strongest token is a right one."""
    single = answers[answers["position"] >= 0]
    for _, group in single.groupby(["edit", "what"], sort=False):
        label, size = group["label"].to_numpy(), group["size"].to_numpy()
        if len(group) > 1 and (label == 1).any():
            yield float(label[size.argmax()])


def _share(measure: str, values: np.ndarray, resamples: int, seed: int) -> dict:
    numbers = values.astype(float)
    low, high = bootstrap(numbers, resamples, seed) if len(numbers) > 1 else (np.nan, np.nan)
    return {**_row(measure, float(numbers.mean()), len(numbers)), "low": low, "high": high}


def _row(measure: str, value: float, cells: int) -> dict:
    return {"measure": measure, "value": value, "low": np.nan, "high": np.nan, "cells": cells}


# --- gates -----------------------------------------------------------------------------------------------


def _gates(spec: ScorecardSpec, case: Case, scores: pd.DataFrame) -> Iterator[Gate]:
    where = f"{case.analysis} on {case.model}"
    if not case.subject.result.checks and case.kind != T4:
        missing = Check(name=f"{where}: exact check", error=None, tolerance=0.0)
        yield Gate("identities", case.model, case.analysis, "an exact check", "none", missing)
    for check in _checks(case):
        named = Check(name=f"{where}: {check.name}", error=check.error, tolerance=check.tolerance)
        wanted = f"{check.name}: at most {check.tolerance:g}"
        found = "not measured" if check.error is None else f"{check.error:.2g}"
        yield Gate("identities", case.model, case.analysis, wanted, found, named)
    if case.kind == T0:
        yield from _exact(spec, case, scores, where)
    if case.kind == T1 and case.scoring.by_ranking:
        auroc = scores[scores["measure"] == "auroc"].sort_values("value")
        control = Control(
            name=f"{where}: AUROC of the circuit's nodes or edges",
            value=float(auroc["value"].min()) if len(auroc) else None,
            must_be=Relation.AT_LEAST,
            against=spec.least_auroc,
        )
        found = "; ".join(f"{r.part} {r.value:.3f}" for r in auroc.itertuples()) or "none measured"
        wanted = f"AUROC at least {spec.least_auroc:g}"
        yield Gate("T1 AUROC", case.model, case.analysis, wanted, found, control)
    wrong = scores[scores["measure"] == "false_positives"]
    if case.kind == T4 and len(wrong):
        # Of an analysis as a whole: parts with few cells say little each.
        cells = wrong["cells"].sum()
        rate = float((wrong["value"] * wrong["cells"]).sum() / cells)
        control = Control(
            name=f"{where}: share found though nothing is there",
            value=rate,
            must_be=Relation.AT_MOST,
            against=spec.most_false_positives,
        )
        parts = ", ".join(
            f"{r.part} {r.value:.1%} of {r.cells:.0f}" for r in wrong.itertuples() if r.part
        )
        found = f"{rate:.1%} of {cells:.0f}" + (f" ({parts})" if len(wrong) > 1 else "")
        wanted = f"at most {spec.most_false_positives:.0%} found"
        yield Gate("T4 false positives", case.model, case.analysis, wanted, found, control)


def _exact(spec: ScorecardSpec, case: Case, scores: pd.DataFrame, where: str) -> Iterator[Gate]:
    """T0: all of the circuit, nothing else, at its tokens, and scores as compiled; estimates as in T1."""
    assert case.subject.circuit is not None
    allowed = case.subject.circuit.tolerance
    best = {"error": allowed, "recall": 1.0, "auroc": 1.0, "position": 1.0, "false_positives": 0.0}
    wanted = f"error at most {allowed:g}, all found at the right token, nothing else"
    if case.scoring.estimates:
        few = spec.most_false_positives
        best = {"auroc": spec.least_auroc, "false_positives": few}
        wanted = f"AUROC at least {spec.least_auroc:g}, at most {few:.0%} else"
    gated = ~scores["part"].isin(case.scoring.ungated)
    scored = scores[scores["measure"].isin(list(best)) & gated]
    if not len(scored):
        return
    missed = []
    for r in scored.itertuples():
        value, want = float(r.value), best[str(r.measure)]
        good = value <= want if r.measure in ("error", "false_positives") else value >= want
        if not good:
            missed.append(f"{f'{r.part} ' if r.part else ''}{r.measure} {value:.3g}")
    check = Check(name=f"{where}: measures that miss the truth", error=len(missed), tolerance=0.0)
    found = "; ".join(missed) or "exact"
    yield Gate("T0 exact", case.model, case.analysis, wanted, found, check)


def _finding(gates: pd.DataFrame) -> str:
    """How many gates of each kind hold, and what the others miss by."""
    parts = []
    for gate, rows in gates.groupby("gate", sort=False):
        failed = rows[~rows["holds"]]
        missed = "; ".join(f"{r.analysis} on {r.model}: {r.found}" for r in failed.itertuples())
        share = f"{gate} {len(rows) - len(failed)} of {len(rows)}"
        parts.append(share + (f" (not: {missed})" if missed else ""))
    return f"gates that hold: {', '.join(parts)}"


def _metrics(
    spec: ScorecardSpec, cases: Sequence[Case], scores: pd.DataFrame, gates: pd.DataFrame
) -> dict[str, float | None]:
    ranked = {case.analysis for case in cases if case.scoring.by_ranking}
    ungated = {part for case in cases for part in case.scoring.ungated}

    def worst(kind: str, measure: str, *, largest: bool) -> float | None:
        chosen = scores[(scores["kind"] == kind) & (scores["measure"] == measure)]
        if measure == "auroc":
            chosen = chosen[chosen["analysis"].isin(ranked)]
        if kind == T0:
            chosen = chosen[~chosen["part"].isin(ungated)]
        values = chosen["value"].dropna()
        return None if not len(values) else float(values.max() if largest else values.min())

    held = Counter(gates.loc[gates["holds"], "gate"])
    total = Counter(gates["gate"])
    return {
        "models": float(scores["model"].nunique()),
        "analyses": float(scores["analysis"].nunique()),
        "gates": float(len(gates)),
        "gates_failed": float((~gates["holds"].astype(bool)).sum()),
        "t0_recall": worst(T0, "recall", largest=False),
        "t0_position": worst(T0, "position", largest=False),
        "t0_error": worst(T0, "error", largest=True),
        "t1_auroc": worst(T1, "auroc", largest=False),
        "t4_false_positives": worst(T4, "false_positives", largest=True),
        **{
            f"{gate.lower().replace(' ', '_')}_held": held[gate] / total[gate]
            for gate in GATES
            if total[gate]
        },
    }
