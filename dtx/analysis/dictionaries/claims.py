"""What the numbers of dictionaries say of the model, and what the analysis is held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dtx.analysis.core.result import About, Check, Claim, Control, Relation, Result, Verdict
from dtx.analysis.dictionaries.groups import estimate, smallest
from dtx.analysis.dictionaries.numbers import NOTHING
from dtx.analysis.dictionaries.spec import (
    EXPLAINED,
    FLIPS,
    FROZEN,
    HOWS,
    KEPT,
    LARGEST,
    LEAST_GAP,
    MEAN,
    PCA,
    RANDOM,
    RECOVERED,
    SAME,
    SEEDS,
    TRAINED,
    UNTRAINED,
    WITHOUT_TRAINING,
    DictionariesSpec,
)
from dtx.dictionary.spec import How
from dtx.estimate import Estimate
from dtx.statistics import next_estimate


@dataclass(frozen=True)
class Group:
    """Dictionaries that differ by their seed alone.

    Attributes:
        l0: Features that are on at a token, the mean. seeds: How many there are.
        rows: Of the table ``groups``.
    """

    l0: float
    seeds: int
    rows: pd.DataFrame

    def number(self, measure: str, target: float = np.nan) -> Estimate:
        """A measure; "not measured" where there is none."""
        rows = self.rows[self.rows["measure"] == measure]
        if not np.isnan(target):
            rows = rows[rows["target"] == target]
        return estimate(rows.iloc[0]) if len(rows) else NOTHING


class Groups:
    """The groups of one hook, by kind and l0.

    Args:
        table: ``groups``. hook: Which. width: Of those that have a width of their own.
    """

    def __init__(self, table: pd.DataFrame, hook: str, width: int):
        own = ~table["kind"].isin([*WITHOUT_TRAINING, MEAN])
        self._table = table[(table["hook"] == hook) & (~own | (table["width"] == width))]

    def of(self, kind: str) -> list[Group]:
        """All of a kind, the sparsest first."""
        table = self._table[self._table["kind"] == kind]
        found = [
            Group(float(part["l0"].iloc[0]), int(part["seeds"].iloc[0]), part)
            for _, part in table.groupby("sparsity", sort=False)
        ]
        return sorted(found, key=lambda group: group.l0)

    def at(self, kind: str, l0: float) -> Group | None:
        """The one whose l0 is nearest; None where there is none of the kind."""
        known = self.of(kind)
        return min(
            known, key=lambda group: abs(np.log((group.l0 + 0.1) / (l0 + 0.1))), default=None
        )

    def number(self, kind: str, l0: float, measure: str, target: float = np.nan) -> Estimate:
        """A measure of the one whose l0 is nearest."""
        group = self.at(kind, l0)
        return NOTHING if group is None else group.number(measure, target)


def judge(
    spec: DictionariesSpec,
    tables: Mapping[str, pd.DataFrame],
    checks: Sequence[Check],
    distinct: int,
) -> Result:
    """The result of all tables.

    Args:
        spec: Targets and criteria.
        tables: Of :func:`dtx.analysis.dictionaries.compute.compute`, without ``smallest``.
        checks: Exact identities.
        distinct: Distinct held-out rows of a hook.
    """
    first = tables["dictionaries"]
    first = first[first["kind"] == TRAINED].iloc[0]
    hook, width = str(first["hook"]), int(first["width"])
    known = Groups(tables["groups"], hook, width)
    keeps = smallest(tables["groups"], spec.high, spec.kept)
    own = known.of(TRAINED)
    at = _least(keeps, TRAINED, hook, width)
    best = own[-1]
    metrics = {**_metrics(spec, known, best, TRAINED, ""), **_smallest_metrics(keeps, hook, width)}
    if known.of(UNTRAINED):
        metrics |= _metrics(spec, known, known.of(UNTRAINED)[-1], UNTRAINED, "_untrained")
    metrics["same_action_mean"] = known.number(MEAN, 0, SAME).value
    metrics["dead_share"] = _dead(tables["dictionaries"], hook, width, best)
    random = known.number(RANDOM, best.l0, KEPT, spec.high)
    trained = best.number(KEPT, spec.high)
    control = Control.of(
        f"return kept at RTG {spec.high:g}: random directions beside the trained ones, about "
        f"{best.l0:.3g} on",
        random,
        Relation.BELOW,
        trained,
    )
    problems = []
    if np.isnan(trained.value):
        gap = f"returns at RTG {spec.high:g} with and without mean ablation"
        problems.append(f"there is no return to keep: {gap} are not {LEAST_GAP:g} apart")
    return Result(
        finding=_finding(spec, known, best, at, keeps, hook, width),
        metrics=metrics,
        checks=checks,
        controls=[control],
        claims=[
            _few_features(spec, known, best, at),
            _both_parts(spec, known, best, at),
            _sparser(spec, known, keeps, at),
            _beyond_untrained(known, best, tables["numbers"], hook, width),
        ],
        tables={**tables, "smallest": keeps},
        distinct_inputs=distinct,
        problems=problems,
    )


def _least(keeps: pd.DataFrame, kind: str, hook: str, width: int) -> float:
    """The smallest l0 of a kind that keeps the return; missing where none does."""
    of = keeps[(keeps["kind"] == kind) & (keeps["hook"] == hook) & keeps["width"].isin([0, width])]
    return float(of["l0"].iloc[0]) if len(of) else np.nan


def _metrics(
    spec: DictionariesSpec, known: Groups, group: Group, kind: str, suffix: str
) -> dict[str, float | None]:
    measures = {"explained_variance": EXPLAINED, "kl_recovered": RECOVERED, "same_action": SAME}
    found = {name: group.number(measure).value for name, measure in measures.items()}
    for name, target in (("low", spec.low), ("high", spec.high)):
        found[f"return_kept_{name}"] = group.number(KEPT, target).value
        found[f"outcome_flips_{name}"] = group.number(FLIPS, target).value
    return {f"{name}{suffix}": value for name, value in {"l0": group.l0, **found}.items()}


def _smallest_metrics(keeps: pd.DataFrame, hook: str, width: int) -> dict[str, float | None]:
    names = {
        TRAINED: "",
        UNTRAINED: "_untrained",
        FROZEN: "_frozen_decoder",
        PCA: "_components",
        LARGEST: "_dimensions",
        RANDOM: "_random",
    }
    return {f"l0_for_95{end}": _least(keeps, kind, hook, width) for kind, end in names.items()}


def _dead(table: pd.DataFrame, hook: str, width: int, best: Group) -> float:
    of = table[(table["kind"] == TRAINED) & (table["hook"] == hook) & (table["width"] == width)]
    sparsity = best.rows["sparsity"].iloc[0]
    return float(of[of["sparsity"] == sparsity]["dead_share"].mean())


def _finding(
    spec: DictionariesSpec,
    known: Groups,
    best: Group,
    at: float,
    keeps: pd.DataFrame,
    hook: str,
    width: int,
) -> str:
    others = {
        "principal components": PCA,
        "largest dimensions": LARGEST,
        "random directions": RANDOM,
        "random decoder": FROZEN,
    }
    least = {name: _least(keeps, kind, hook, width) for name, kind in others.items()}
    beside = ", ".join(f"{name} {_count(l0)}" for name, l0 in least.items())
    kept = f"{spec.kept:.0%} of the return at RTG {spec.high:g}"
    if np.isnan(at):
        one = f"no trained dictionary is known to keep {kept}"
    else:
        share = known.number(TRAINED, at, KEPT, spec.high)
        one = f"{at:.3g} of {width:,} features a token keep at least {kept} ({share})"
    explained, own = best.number(EXPLAINED), known.number(UNTRAINED, best.l0, EXPLAINED)
    return (
        f"{one}; features needed by controls: {beside}; with {best.l0:.3g} explained variance is "
        f"{explained.value:.3f}, of untrained networks' own {own.value:.3f}"
    )


def _count(l0: float) -> str:
    return "none of those tried" if np.isnan(l0) else f"{l0:.3g}"


def _enough(group: Group | None) -> bool | None:
    """Whether a statement rests on enough seeds; not decided where it does not."""
    return True if group is not None and group.seeds >= SEEDS else None


def _seeds(group: Group | None) -> str:
    seeds = 0 if group is None else group.seeds
    return f"; {seeds} seeds, fewer than {SEEDS}" if seeds < SEEDS else f"; {seeds} seeds"


def _few_features(spec: DictionariesSpec, known: Groups, best: Group, at: float) -> Claim:
    """Some sparsity keeps the return, where directions that were not learnt do not."""
    l0 = best.l0 if np.isnan(at) else at
    group = known.at(TRAINED, l0)
    trained = known.number(TRAINED, l0, KEPT, spec.high)
    beside = {name: known.number(name, l0, KEPT, spec.high) for name in (RANDOM, FROZEN)}
    conditions = [
        Relation.AT_LEAST.decides(trained, spec.kept),
        *(Relation.ABOVE.decides(trained, other) for other in beside.values()),
        _enough(group),
    ]
    numbers = "; ".join(f"{name} {other}" for name, other in beside.items())
    applies = not np.isnan(trained.value)
    return Claim(
        id="few_features_keep_the_return",
        text="a few features a token keep the return",
        criterion=f"some L0 keeps at least {spec.kept:.0%} at RTG {spec.high:g} beyond its interval over "
        f"episodes and seeds, of which there are {SEEDS}, and more than random directions and a random "
        "decoder of this L0, intervals apart",
        evidence=f"L0 {l0:.3g} keeps {trained}; {numbers}{_seeds(group)}"
        if applies
        else "mean ablation costs no return",
        verdict=Verdict.judge(conditions) if applies else Verdict.NOT_APPLICABLE,
    )


def _both_parts(spec: DictionariesSpec, known: Groups, best: Group, at: float) -> Claim:
    """At that sparsity dictionaries of which only one part was trained keep less of the return."""
    l0 = best.l0 if np.isnan(at) else at
    group = known.at(TRAINED, l0)
    trained = known.number(TRAINED, l0, KEPT, spec.high)
    partly = [kind for how, kind in HOWS.items() if how is not How.trained]
    beside = {kind: known.number(kind, l0, KEPT, spec.high) for kind in partly}
    applies = not np.isnan(trained.value)
    conditions = [
        *(Relation.ABOVE.decides(trained, other) for other in beside.values()),
        _enough(group),
    ]
    numbers = "; ".join(f"{kind} {other}" for kind, other in beside.items())
    return Claim(
        id="both_parts_must_be_learnt",
        text="encoder and decoder must both be learnt to keep the return",
        criterion=f"at the smallest L0 that keeps {spec.kept:.0%} at RTG {spec.high:g}, or the largest, "
        "dictionaries of which only encoder or decoder is trained, or whose decoder stays near random "
        f"directions, keep less, intervals apart; {SEEDS} seeds (2026-11-30)",
        evidence=f"L0 {l0:.3g} keeps {trained}; {numbers}{_seeds(group)}"
        if applies
        else "mean ablation costs no return",
        verdict=Verdict.judge(conditions) if applies else Verdict.NOT_APPLICABLE,
    )


def _sparser(spec: DictionariesSpec, known: Groups, keeps: pd.DataFrame, at: float) -> Claim:
    """At the smallest L0 that keeps the return no linear basis of as many dimensions does."""
    group = None if np.isnan(at) else known.at(TRAINED, at)
    conditions: list[bool | None] = []
    said = []
    for kind in (PCA, LARGEST):
        # As many or more: what the dictionary is to beat may not be smaller than it. If as few keep the
        # return, more are not asked.
        known_of = known.of(kind) if group else []
        keep = [g for g in known_of if g.l0 <= at and _keeps(spec, g)]
        of = keep or [g for g in known_of if g.l0 >= at - 0.5]
        if of:
            kept = of[0].number(KEPT, spec.high)
            conditions.append(False if keep else Relation.BELOW.decides(kept, spec.kept))
            said.append(f"{of[0].l0:.3g} {kind} keep {kept}")
        else:
            conditions.append(None)
    conditions.append(_enough(group))
    nothing = np.isnan(known.number(TRAINED, 1, KEPT, spec.high).value)
    evidence = "; ".join(said) if said else "no dictionary is known to keep it"
    return Claim(
        id="sparser_than_components",
        text="learnt features are fewer than the dimensions that the return needs",
        criterion=f"as many principal components, and as many of the largest dimensions, as the smallest "
        f"L0 that keeps {spec.kept:.0%}, or the next tried number, keep less, beyond the interval",
        evidence="mean ablation costs no return" if nothing else evidence + _seeds(group),
        verdict=Verdict.NOT_APPLICABLE if nothing else Verdict.judge(conditions),
    )


def _keeps(spec: DictionariesSpec, group: Group) -> bool:
    """Whether a group is known to keep the return."""
    return Relation.AT_LEAST.decides(group.number(KEPT, spec.high), spec.kept) is True


def _beyond_untrained(
    known: Groups, best: Group, numbers: pd.DataFrame, hook: str, width: int
) -> Claim:
    """The dictionary fits the trained network better than one more untrained network's own fits that."""
    sparsity = best.rows["sparsity"].iloc[0]
    of = numbers[(numbers["kind"] == UNTRAINED) & (numbers["hook"] == hook)]
    of = of[(of["width"] == width) & (of["sparsity"] == sparsity)]
    own = {m: best.number(m) for m in (EXPLAINED, RECOVERED)}
    fresh = {
        m: next_estimate(of[of["measure"] == m]["value"].to_numpy(), of="untrained networks")
        for m in own
    }
    conditions = [Relation.ABOVE.decides(own[m], fresh[m]) for m in own]
    numbers_said = "; ".join(f"{m} {own[m]}, untrained {fresh[m]}" for m in own)
    return Claim(
        id="beyond_untrained_networks",
        text="training makes the activations easier to write in sparse features",
        criterion="explained variance and the recovered share of the KL lie above those of one more "
        f"untrained network's own dictionary; {SEEDS} seeds",
        evidence=numbers_said + _seeds(best),
        verdict=Verdict.judge([*conditions, _enough(best)]),
        about=About.MODEL,
    )
