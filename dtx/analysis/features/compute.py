"""How well the features of a dictionary tell facts of the world, beside what any features would.

Letters: n rows, f features, m facts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from dtx.analysis.core.result import Check, Control, Relation, Result, largest
from dtx.analysis.features.claims import ALL, claims
from dtx.analysis.features.coverage import (
    Choice,
    Levels,
    Scores,
    always_on,
    choose,
    count,
    levels_of,
    score,
)
from dtx.analysis.features.data import Data, prepared
from dtx.analysis.features.margins import Group, Margins
from dtx.analysis.features.measures import Structure, agreements, structure_of
from dtx.analysis.features.probes import dense_probes, sparse_probes
from dtx.analysis.features.sources import Reading, Source, Which, mismatched, sources, sparse
from dtx.analysis.features.spec import (
    ALWAYS_ON,
    DIMENSIONS,
    FALSE_SHARE,
    INPUT,
    SHUFFLED,
    TRAINED,
    UNTRAINED,
    FeaturesSpec,
)
from dtx.analysis.features.tables import fact_table, group_table, metrics_of, probe_table
from dtx.dictionary.trained import Dictionaries
from dtx.progress import Bar, progress
from dtx.statistics import share_estimate
from dtx.training.threads import one_thread

if TYPE_CHECKING:
    from dtx.activations.facts import FactTable

EXACT = 1e-9
"""By how much shares of whole numbers may miss."""


@dataclass
class Found:
    """What has been measured so far."""

    scored: dict[tuple[str, int], Scores] = field(default_factory=dict)
    choices: dict[tuple[str, int], Choice] = field(default_factory=dict)
    cuts: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)
    structure: dict[tuple[str, int], Structure] = field(default_factory=dict)
    samples: dict[tuple[str, int], csr_array] = field(default_factory=dict)
    probes: dict[tuple[str, int, int], np.ndarray] = field(default_factory=dict)
    recounted: list[float] = field(default_factory=list)


def compute(
    spec: FeaturesSpec,
    which: Which,
    model: Reading,
    untrained: list[Reading],
    frozen: Dictionaries,
    table: FactTable,
    rows: np.ndarray,
) -> Result:
    """Score the features of a model's dictionaries and of all controls.

    Args:
        spec: Settings.
        which: Hook, width and sparsity of the dictionaries that are looked at.
        model: Activations and dictionaries of the model. untrained: Of untrained networks, at the same rows.
        frozen: Dictionaries of the model of which a part stays random.
        table: Facts at the rows. rows: (n,) numbers of stored rows.

    Returns:
        Tables ``facts`` (one row a fact), ``scores`` (a fact, source and seed), ``groups`` (a group of facts
        and source), ``probes`` (a group, source and size) and ``structure`` (a source and seed).
    """
    data = prepared(spec, model.stored, table, rows)
    if not data.names or not len(data.chosen_on) or not len(data.scored_on):
        return Result(
            metrics={},
            checks=[],
            finding="no fact is true at some of the tokens of both halves",
            problems=["no fact is true at some of the tokens of both halves of the prefixes"],
        )
    dictionaries = len(model.dictionaries) + len(frozen) + len(untrained)
    found = Found()
    with one_thread(), progress("features", dictionaries + 4, "sources") as bar:
        inputs = table.inputs()
        for source in sources(
            which,
            model,
            untrained,
            frozen,
            inputs,
            data.rows,
            data.weight,
            data.chosen_on,
            spec.seed,
        ):
            _measure(spec, data, source, found, bar)
        _dense(which, model, untrained, inputs, data, found)
    found.scored[ALWAYS_ON, 0] = always_on(data.scored_on, data.weight, data.facts, data.group)
    return _result(spec, model, untrained, data, found)


def _measure(spec: FeaturesSpec, data: Data, source: Source, found: Found, bar: Bar) -> None:
    """One source: choose, score, and for dictionaries what features are among themselves."""
    key = source.name, source.seed
    levels = levels_of(sparse(source.values), data.chosen_on, data.weight, spec.thresholds)
    counts = count(levels, data.chosen_on, data.weight, data.facts)
    choice = choose(counts, levels.two_sided)
    found.choices[key], found.cuts[key] = choice, levels.cuts
    found.scored[key] = score(levels, choice, data.scored_on, data.weight, data.facts, data.group)
    found.recounted.append(_recounted(levels, choice, data))
    if isinstance(source.values, csr_array):
        found.structure[key] = structure_of(
            spec, levels, counts, choice, found.scored[key].f1, data.groups,
            data.facts[:, data.real], source.values, data.weight, data.scored_on, data.sample,
        )  # fmt: skip
        if source.name in (TRAINED, UNTRAINED, INPUT):
            _probes(spec, data, source.values, key, found)
        if source.name != INPUT:
            found.samples[key] = csr_array(source.values[data.sample.scored_on])
    bar.advance(1)


def _recounted(levels: Levels, choice: Choice, data: Data) -> float:
    """By how much F1 from the sparse product misses that of a direct count."""
    again = score(levels, choice, data.chosen_on, data.weight, data.facts, data.group).f1
    there = ~np.isnan(again)
    return largest(np.abs(again - choice.f1)[there])


def _probes(
    spec: FeaturesSpec, data: Data, values: csr_array, key: tuple[str, int], found: Found
) -> None:
    sizes = tuple(sorted(set(spec.sparse)))
    sample, real = data.sample, data.facts[:, data.real]
    f1 = sparse_probes(values, real, data.weight, sample.chosen_on, sample.scored_on, sizes)
    for size, each in zip(sizes, f1, strict=True):
        found.probes[(*key, size)] = each


def _dense(
    which: Which,
    model: Reading,
    untrained: list[Reading],
    inputs: np.ndarray,
    data: Data,
    found: Found,
) -> None:
    """Probes on whole activations, of the model and of untrained networks, and on the whole input."""
    sample, real = data.sample, data.facts[:, data.real]
    arrays = [((DIMENSIONS, 0), model.stored.array(which.hook))]
    arrays += [
        ((UNTRAINED, number), network.stored.array(which.hook))
        for number, network in enumerate(untrained)
    ]
    both, first, second = sample.both, sample.first, sample.second
    weight, facts = data.weight[both], real[both]
    for key, array in arrays:
        x = np.asarray(array[data.rows[both]], np.float32)
        found.probes[(*key, 0)] = dense_probes(x, facts, weight, first, second)
    found.probes[INPUT, 0, 0] = dense_probes(
        inputs[both].astype(np.float32), facts, weight, first, second
    )


def _result(
    spec: FeaturesSpec, model: Reading, untrained: list[Reading], data: Data, found: Found
) -> Result:
    margins = Margins.of(found.scored, data.real)
    groups = {ALL: margins.group(np.ones(len(data.names), bool))}
    for name in dict.fromkeys(data.groups):
        groups[name] = margins.group(np.array(data.groups) == name)
    shuffled, of_views = _false_shares(spec, data, found)
    agreed = agreements(found.samples, data.weight[data.sample.scored_on], spec.alike)
    metrics = metrics_of(groups, found.structure, found.probes, agreed)
    metrics |= {"shuffled_share": shuffled.value, "random_label_share": of_views.value}
    facts, scores = fact_table(data, margins, found.scored, found.choices, found.cuts)
    return Result(
        finding=_finding(groups),
        metrics=metrics,
        checks=list(_checks(model, untrained, data, found)),
        controls=[
            Control.of(
                "shuffled facts that are told beyond always on",
                shuffled,
                Relation.AT_MOST,
                FALSE_SHARE,
            ),
            Control.of(
                "random labels of each view that are told beyond the input and untrained networks",
                of_views,
                Relation.AT_MOST,
                FALSE_SHARE,
            ),
        ],
        claims=claims(groups),
        tables={
            "facts": facts,
            "scores": scores,
            "groups": group_table(data, groups, found.scored),
            "probes": probe_table(data, found.probes),
            "structure": agreed.beside(found.structure),
        },
        distinct_inputs=len(data.scored_on),
    )


def _false_shares(spec: FeaturesSpec, data: Data, found: Found):
    """Shares of shuffled facts and of random labels that come out as facts do."""
    m, each = len(data.names), spec.shuffled
    alone = {k: s for k, s in found.scored.items() if k[0] in (TRAINED, ALWAYS_ON)}
    beyond = [
        Margins.of(scored, slice(m + i * each, m + (i + 1) * each)).beyond()
        for i, scored in enumerate((alone, found.scored))
    ]
    return (
        share_estimate(int(hits.sum()), each, of=of)
        for hits, of in zip(beyond, (f"{SHUFFLED} facts", "random labels"), strict=True)
    )


def _checks(model: Reading, untrained: list[Reading], data: Data, found: Found) -> Iterator[Check]:
    yield Check(
        name="rows at which an untrained network's activations are of another token",
        error=float(max((mismatched(model.stored, u.stored) for u in untrained), default=0)),
        tolerance=0,
    )
    yield Check(
        name="F1 by one sparse product is that of a direct count",
        error=largest(found.recounted),
        tolerance=1e-6,
    )
    yield Check(
        name="facts as their own dictionary score 1", error=_own_dictionary(data), tolerance=EXACT
    )


def _own_dictionary(data: Data) -> float:
    """By how much the F1 of one-hot facts as features misses 1."""
    sample, facts = data.sample, data.facts[:, data.real]
    both, first, second = sample.both, sample.first, sample.second
    own, weight = facts[both], data.weight[both]
    levels = levels_of(sparse(csr_array(own.astype(np.float32))), first, weight, 1)
    choice = choose(count(levels, first, weight, own))
    scores = score(levels, choice, second, weight, own, data.group[both])
    there = own[first].any(0) & ~np.isnan(scores.f1)
    return largest(np.abs(1 - scores.f1[there]))


def _finding(groups: dict[str, Group]) -> str:
    every = groups[ALL]
    over = [
        f"{every.over[rival].value:+.2f} over {words}"
        for rival, words in ((INPUT, "the input"), (UNTRAINED, "untrained networks"))
    ]
    return (
        f"features tell {every.beyond} of {every.facts} facts beyond all controls; F1 "
        f"{' and '.join(over)}, {every.margin.value:+.2f} over the best control of each fact"
    )
