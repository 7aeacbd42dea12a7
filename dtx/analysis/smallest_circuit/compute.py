"""The smallest circuit of every edit at every reward-to-go in both directions, and what may be said of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from dtx.analysis.core.controls import spread
from dtx.analysis.core.gaps import untrained_runs
from dtx.analysis.core.patching import SAME_RUNS, unmoved, worst
from dtx.analysis.core.patching_spec import EDIT
from dtx.analysis.core.result import Result
from dtx.analysis.core.verdicts import (
    MINIMUM,
    About,
    Check,
    Claim,
    Control,
    Relation,
    Verdict,
)
from dtx.analysis.smallest_circuit.masked import MaskedRuns
from dtx.analysis.smallest_circuit.measure import LAYOUTS, Found, find
from dtx.analysis.smallest_circuit.spec import CELL, SmallestCircuitSpec, name_of
from dtx.dt.model import DecisionTransformerModel
from dtx.pairs.pair_set import PairBatch, PairSet
from dtx.progress import progress
from dtx.statistics import Estimate, enumerated, mean_estimate
from dtx.training.threads import one_thread

NO_DECISION = "no edit changes the answer beyond untrained models"
"""Why nothing is established where there is no circuit to look for."""
CURVE = ["size", "share", "circuit", "kept", "faithfulness", "low", "high", "n", "interval"]
EDGE = ["sender", "receiver", "input", "position", "token", "lost"]


@dataclass(frozen=True)
class Case:
    """An edit at a reward-to-go.

    Attributes:
        batch: Its pairs of the commonest length in which the edit changes the answer, by more than the gap.
        gap: Mean |difference of LD between the two runs| of all its pairs.
        untrained: That of untrained models.
        layouts: With such a pair. of: All layouts. about: What its claims are about.
    """

    edit: str
    reward_to_go: float
    batch: PairBatch
    gap: Estimate
    untrained: Estimate
    layouts: int
    of: int
    about: About

    @property
    def problem(self) -> str | None:
        """Why the question does not arise, in words; None if it does."""
        if self.layouts < MINIMUM:
            return f"it changes the answer in {self.layouts} of {self.of} layouts (least {MINIMUM})"
        if not Relation.ABOVE.decides(self.gap, self.untrained):
            return (
                f"it moves the logit difference by {self.gap}, untrained models by {self.untrained}"
            )
        return None


def compute(
    spec: SmallestCircuitSpec, model: DecisionTransformerModel, pairs: PairSet, every: bool
) -> Result:
    """Find and measure them.

    Args:
        spec: What is looked for. model: Any. pairs: Clean and corrupt runs.
        every: The pairs are of all layouts that there are.

    Returns:
        Tables ``curve`` (faithfulness by size), ``circuit`` (the edges of each smallest one), ``summary`` (a
        row a circuit) and ``runs`` (a row a pair). Metrics of each: ``EDIT_RTG_DIRECTION_edges``, ``_of``,
        ``_kept``, ``_faithfulness``, ``_held_out``, ``_random`` (the best one), ``_rest``, ``_completeness``,
        ``_minimality``, ``_cpr``, ``_cmd``; and ``EDIT_RTG_gap``.
    """
    begin, cpu = time.perf_counter(), time.process_time()
    with one_thread():
        cases, control, runs = _cases(spec, model, pairs, every)
        found = _find(spec, model, cases, pairs.min_ld_gap, every)
    return Result(
        finding=_finding(cases, found),
        metrics=_metrics(cases, found),
        checks=_checks(spec, found),
        controls=[control],
        claims=list(_claims(spec, cases, found)),
        tables={
            "curve": _joined(found, lambda f: f.curve[CURVE], CURVE),
            "circuit": _joined(found, _edges, EDGE),
            "summary": _summary(found),
            "runs": runs,
        },
        distinct_inputs=_distinct(found),
        problems=[] if found else [SAME_RUNS if unmoved(runs) else NO_DECISION],
        timing={
            "seconds": time.perf_counter() - begin,
            "cpu_seconds": time.process_time() - cpu,
            "circuits_measured": sum(f.measured for f in found.values()),
        },
    )


Key = tuple[str, float, str]
"""Edit, reward-to-go, direction."""


@torch.inference_mode()
def _cases(
    spec: SmallestCircuitSpec, model: DecisionTransformerModel, pairs: PairSet, every: bool
) -> tuple[list[Case], Control, pd.DataFrame]:
    """Edits at rewards-to-go, the largest gap beside untrained models' largest, and the table of pairs."""
    batches = [batch.where(_asked(spec, batch)) for batch in pairs.batches(model)]
    longest: dict[tuple[str, float], PairBatch] = {}
    for batch in batches:
        for key in batch.table[CELL[:2]].drop_duplicates().itertuples(index=False, name=None):
            some = batch.where((batch.table[CELL[:2]] == list(key)).all(axis=1).to_numpy())
            if len(some) > len(longest.get(key, ())):
                longest[key] = some
    asked = list(longest.values())
    gaps = np.array(
        [
            [float(np.abs(clean - corrupt).mean()) for clean, corrupt in of_twin]
            for of_twin in untrained_runs(model, asked, spec.untrained, spec.seed)
        ]
    )
    cases, tables = [], []
    for i, ((edit, reward_to_go), batch) in enumerate(longest.items()):
        ld = [
            batch.difference(model.last_logits(x)).double().numpy()
            for x in (batch.clean, batch.corrupt)
        ]
        span = ld[0] - ld[1]
        changes = (np.abs(span) >= pairs.min_ld_gap) & (np.sign(ld[0]) != np.sign(ld[1]))
        tables.append(batch.table.assign(ld_clean=ld[0], ld_corrupt=ld[1], changes_answer=changes))
        names = batch.table["variant"].astype(str).to_numpy()
        size = np.abs(span)
        gap = (
            enumerated(float(size.mean()), len(set(names)), of=LAYOUTS)
            if every
            else mean_estimate(size, clusters=names, of=LAYOUTS)
        )
        cases.append(
            Case(
                edit=edit,
                reward_to_go=float(reward_to_go),
                batch=batch.where(changes),
                gap=gap,
                untrained=spread(gaps[:, i]),
                layouts=len(set(names[changes])),
                of=len(set(names)),
                about=About.REWARD_TO_GO if _asks_otherwise(pairs, batch) else About.MODEL,
            )
        )
    best = max(cases, key=lambda case: case.gap.value)
    control = Control.of(
        "largest mean gap of an edit, untrained models' largest",
        best.gap,
        Relation.ABOVE,
        spread(gaps.max(1)),
    )
    return cases, control, pd.concat(tables, ignore_index=True)


def _asks_otherwise(pairs: PairSet, batch: PairBatch) -> bool:
    """Whether the two runs of pairs differ in their reward-to-go."""
    asked = pairs.runs["reward_to_go"]
    clean, corrupt = (asked[batch.table[run].to_numpy()] for run in ("clean", "corrupt"))
    return not np.array_equal(clean, corrupt, equal_nan=True)


def _asked(spec: SmallestCircuitSpec, batch: PairBatch) -> np.ndarray:
    chosen = batch.kind(EDIT)
    if spec.edits is not None:
        chosen &= np.array(batch.table["edit"].isin(spec.edits))
    return chosen


def _find(
    spec: SmallestCircuitSpec,
    model: DecisionTransformerModel,
    cases: Sequence[Case],
    gap: float,
    every: bool,
) -> dict[Key, Found]:
    asked = [(c, d) for c in cases if c.problem is None for d in spec.directions]
    trainable = [p for p in model.parameters() if p.requires_grad]
    found = {}
    try:
        for parameter in trainable:  # slopes are of edges, not of weights
            parameter.requires_grad_(False)
        with progress("circuits", len(asked), "circuits") as bar:
            for case, direction in asked:
                runs = MaskedRuns(model, case.batch, direction, gap)
                found[case.edit, case.reward_to_go, direction.value] = find(spec, runs, every)
                bar.advance(1)
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
    return found


def _checks(spec: SmallestCircuitSpec, found: dict[Key, Found]) -> list[Check]:
    if not found:
        return []
    errors = {
        "the whole model keeps everything": [f.ends[0] for f in found.values()],
        "no edge at all keeps nothing": [f.ends[1] for f in found.values()],
        "removals measured together are as measured alone": [f.batching for f in found.values()],
    }
    return [Check(name=k, error=worst(v), tolerance=spec.tolerance) for k, v in errors.items()]


def _metrics(cases: Sequence[Case], found: dict[Key, Found]) -> dict[str, float | None]:
    metrics: dict[str, float | None] = {
        f"{case.edit}_{case.reward_to_go:g}_gap": case.gap.value for case in cases
    }
    for key, row in zip(found, _summary(found).to_dict("records"), strict=True):
        name = name_of(*key)
        for column in _SHOWN:
            metrics[f"{name}_{column}"] = float(row[column])
    return metrics


_SHOWN = [
    *("edges", "of", "kept", "faithfulness", "held_out", "needed", "random", "same_nodes"),
    *("rest", "completeness", "minimality", "cpr", "cmd"),
]
"""Columns of the table ``summary`` that are metrics."""


def _summary(found: dict[Key, Found]) -> pd.DataFrame:
    """One row a circuit; of random ones the best."""
    rows = []
    for key, f in found.items():
        row = {
            **dict(zip(CELL, key, strict=True)),
            "edges": f.edges,
            "of": f.of,
            "random": f.random.high,
            "same_nodes": f.same_nodes.high,
            "completeness": f.completeness,
            "minimality": f.minimal,
            "cpr": f.cpr,
            "cmd": f.cmd,
            "measured": f.measured,
        }
        none = Estimate(np.nan, np.nan, np.nan, 0, "too few layouts")
        for name, value in {
            "kept": f.kept,
            "faithfulness": f.faithfulness,
            "rest": f.rest,
            "held_out": f.held_out or none,
            "needed": f.needed or none,
        }.items():
            row[name] = value.value
            row |= {f"{name}_{column}": x for column, x in value.columns().items()}
        rows.append(row)
    return pd.DataFrame(rows, columns=None if rows else [*CELL, *_SHOWN])


def _edges(found: Found) -> pd.DataFrame:
    """The edges of a circuit, the one that loses most first."""
    runs, cells = found.runs, np.argwhere(found.mask_nrs)
    rows = [
        (
            runs.senders[s].name,
            runs.receivers[r].name,
            runs.receivers[r].input,
            int(n),
            runs.batch.names[n],
        )
        for n, r, s in cells
    ]
    table = pd.DataFrame(rows, columns=EDGE[:-1]).assign(lost=found.lost)
    return table.sort_values("lost", ascending=False, key=np.abs, kind="stable")


def _joined(found: dict[Key, Found], table, columns: list[str]) -> pd.DataFrame:
    tables = [table(f).assign(**dict(zip(CELL, key, strict=True))) for key, f in found.items()]
    if not tables:
        return pd.DataFrame(columns=[*columns, *CELL])
    return pd.concat(tables, ignore_index=True)


def _distinct(found: dict[Key, Found]) -> int:
    """Pairs of runs with different logit differences."""
    return len(
        {
            (edit, float(ld), float(span))
            for (edit, _, _), f in found.items()
            for ld, span in zip(f.runs.ld_base, f.runs.span, strict=True)
        }
    )


def _finding(cases: Sequence[Case], found: dict[Key, Found]) -> str:
    """The size of each circuit beside random ones; then what was not asked."""
    parts = [f"{_words(key)}: {_evidence(f)}" for key, f in found.items()]
    parts += [
        f"{c.edit} at reward-to-go {c.reward_to_go:g}: no circuit, {c.problem}"
        for c in cases
        if c.problem
    ]
    return "; ".join(parts)


def _words(key: Key) -> str:
    edit, reward_to_go, direction = key
    return f"{edit} at reward-to-go {reward_to_go:g}, {direction}"


def _evidence(f: Found) -> str:
    parts = [
        f"{f.edges:,} of {f.of:,} edges (sender, receiver, token) restore {f.kept.value:.2f} "
        f"(faithfulness {f.faithfulness})",
        f"control: random circuits of its structure at most {f.random.high:.2f}, "
        f"between its nodes {f.same_nodes.high:.2f}",
        f"all other edges restore {f.rest.value:.2f}",
    ]
    if f.held_out is not None and f.needed is not None:
        parts.insert(1, f"pruned on other layouts {f.held_out}, where {f.needed} edges are needed")
    return ", ".join(parts)


def _claims(
    spec: SmallestCircuitSpec, cases: Sequence[Case], found: dict[Key, Found]
) -> Iterator[Claim]:
    """One claim a circuit: its edges are enough, and just as many others are not."""
    for case in cases:
        for direction in spec.directions:
            key = (case.edit, case.reward_to_go, direction.value)
            f = found.get(key)
            yield Claim(
                id=f"{name_of(*key)}_circuit".replace(".", "_"),
                text=f"a circuit is enough for {_words(key)}",
                criterion=f"on all its layouts faithfulness at least {spec.faithfulness:g}, found on other "
                "layouts more than every random circuit of its size and structure",
                evidence=case.problem or "" if f is None else _evidence(f),
                verdict=Verdict.NOT_APPLICABLE if f is None else verdict(spec, f),
                about=case.about,
            )


def verdict(spec: SmallestCircuitSpec, f: Found) -> Verdict:
    """Confirmed if the circuit is faithful and random ones are beneath it, by their nearer ends.

    Without random circuits in its structure nothing is decided; those between its own nodes are asked for
    where there are any.
    """
    beyond = f.held_out or f.faithfulness
    conditions = [
        Relation.AT_LEAST.decides(f.faithfulness, spec.faithfulness),
        Relation.ABOVE.decides(beyond, f.random),
    ]
    if f.same_nodes.n:
        conditions.append(Relation.ABOVE.decides(beyond, f.same_nodes))
    return Verdict.judge(conditions)
