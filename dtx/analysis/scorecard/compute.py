"""Score answers against the truth, and hold the scores against the gates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from dtx.analysis.core.answers import COLUMNS
from dtx.analysis.core.result import CLAIMS, About, Check, Control, Result, Verdict
from dtx.analysis.scorecard.gates import GATES, Case, Gate, checks, gates, keeps, limit, statements
from dtx.analysis.scorecard.spec import T0, T1, T4, ScorecardSpec
from dtx.statistics import share_estimate


def compute(spec: ScorecardSpec, cases: Sequence[Case]) -> Result:
    """Score every answer, and hold the scores against the gates.

    Returns:
        Tables ``scores``: one row a model, analysis, part and measure: value, its interval, how many cells
        it is of, distinct inputs of the analysis, what it is held to, whether it holds. ``answers``: every
        scored answer. ``gates``: one row a gate, model and analysis: wanted, found, holds.
    """
    tables = [_scores(spec, case) for case in cases]
    scores = pd.concat(tables, ignore_index=True)
    made = [gate for case, table in zip(cases, tables, strict=True) for gate in gates(case, table)]
    made += statements(spec.gates, cases)
    table = pd.DataFrame([gate.row for gate in made], columns=list(Gate.COLUMNS))
    answers = [
        case.answers.assign(model=case.model, kind=case.kind, analysis=case.analysis)
        for case in cases
        if len(case.answers)
    ]
    return Result(
        finding=_finding(table),
        metrics=_metrics(scores, table),
        checks=[gate.decides for gate in made if isinstance(gate.decides, Check)],
        controls=[gate.decides for gate in made if isinstance(gate.decides, Control)],
        tables={
            "scores": scores,
            "answers": pd.concat(answers, ignore_index=True)
            if answers
            else pd.DataFrame(columns=[*COLUMNS, "model", "kind", "analysis"]),
            "gates": table,
        },
        about=About.INSTRUMENT,
    )


def _scores(spec: ScorecardSpec, case: Case) -> pd.DataFrame:
    """Rows of the table ``scores`` of one analysis of one model."""
    rows = []
    for check in checks(case):
        value = np.nan if check.error is None else check.error
        row = {**_row("identity", value, 1), "part": "", "limit": check.tolerance}
        rows.append({**row, "holds": check.holds})
    for part, answers in case.answers.groupby("part", sort=False):
        for row in score(answers, spec.gates.found.value):
            held_to = limit(spec.gates, case, str(part), row["measure"])
            row |= {"part": part, "limit": np.nan if held_to is None else held_to}
            row["holds"] = None if held_to is None else keeps(row["measure"], row["value"], held_to)
            rows.append(row)
    columns = ["measure", "value", "low", "high", "interval", "cells", "which"]
    table = pd.DataFrame(rows, columns=[*columns, "part", "limit", "holds"])
    table.insert(0, "model", case.model)
    table.insert(1, "kind", case.kind)
    table.insert(2, "analysis", case.analysis)
    return table.assign(distinct_inputs=case.subject.result.distinct_inputs)


def score(answers: pd.DataFrame, positive: float) -> Iterator[dict]:
    """Measures of answers that have a label.

    ``error``: largest deviation from an exactly known score. ``recall``: share of what is in the circuit that
    was found. ``auroc``: of what is in the circuit over what is not, by size. ``position``: share of the
    nodes and edges with one right token that are strongest there. ``false_positives``: share of what is not
    in the circuit that was found. ``false_statements``: share of claims of which the contrary is true: stated
    though false, or refuted though true; ``which`` names them.
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
        yield _share("recall", positives[true], _names(answers[true], ~positives[true]))
    if true.any() and not true.all():
        if not place and parts != {CLAIMS}:
            yield _row("auroc", auroc(size[true], size[~true]), len(answers))
        right = list(_positions(answers.assign(size=size)))
        if right:
            yield _share("position", np.array(right))
    if not true.all() and not place:
        wrong = positives[~true]
        yield _share("false_positives", wrong, _names(answers[~true], wrong))
    if parts == {CLAIMS} and len(answers):
        refuted = (answers["verdict"] == Verdict.NOT_CONFIRMED.value).to_numpy()
        wrong = np.where(true, refuted, positives)
        yield _share("false_statements", wrong, _names(answers, wrong))


SHOWN = 8
"""Names of misses or false positives that a row tells."""


def _names(answers: pd.DataFrame, which: np.ndarray) -> str:
    names = answers.loc[which.astype(bool), "what"].astype(str).drop_duplicates().tolist()
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


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


def _share(measure: str, values: np.ndarray, which: str = "") -> dict:
    found = share_estimate(int(values.sum()), len(values), of="cells")
    ends = {"low": found.low, "high": found.high, "interval": found.kind}
    return {**_row(measure, found.value, len(values)), **ends, "which": which}


def _row(measure: str, value: float, cells: int) -> dict:
    exact = {"low": np.nan, "high": np.nan, "interval": "not a sample", "which": ""}
    return {"measure": measure, "value": value, "cells": cells, **exact}


def _finding(gates: pd.DataFrame) -> str:
    """How many gates hold, of each kind, and what the others miss by."""
    held = int(gates["holds"].sum())
    parts = []
    for gate, rows in gates.groupby("gate", sort=False):
        failed = rows[~rows["holds"].astype(bool)]
        missed = "; ".join(f"{r.analysis} on {r.model}: {r.found}" for r in failed.itertuples())
        share = f"{gate} {len(rows) - len(failed)} of {len(rows)}"
        parts.append(share + (f" (not: {missed})" if missed else ""))
    return f"held {held} of {len(gates)} gates: {', '.join(parts)}"


def _metrics(scores: pd.DataFrame, gates: pd.DataFrame) -> dict[str, float | None]:
    def worst(kind: str, measure: str, *, largest: bool) -> float | None:
        chosen = scores[(scores["kind"] == kind) & (scores["measure"] == measure)]
        if measure == "recall":
            chosen = chosen[chosen["part"] != CLAIMS]
        values = chosen.loc[chosen["limit"].notna(), "value"].dropna()
        return None if not len(values) else float(values.max() if largest else values.min())

    held = Counter(gates.loc[gates["holds"].astype(bool), "gate"])
    total = Counter(gates["gate"])
    return {
        "models": float(scores["model"].nunique()),
        "analyses": float(scores["analysis"].nunique()),
        "gates": float(len(gates)),
        "gates_held": float(sum(held.values())),
        "gates_failed": float(len(gates) - sum(held.values())),
        "t0_recall": worst(T0, "recall", largest=False),
        "t0_position": worst(T0, "position", largest=False),
        "t0_error": worst(T0, "error", largest=True),
        "t0_false_statements": worst(T0, "false_statements", largest=True),
        "t1_auroc": worst(T1, "auroc", largest=False),
        "t4_false_positives": worst(T4, "false_positives", largest=True),
        **{
            f"{gate.lower().replace(' ', '_')}_held": held[gate] / total[gate]
            for gate in GATES
            if total[gate]
        },
    }
