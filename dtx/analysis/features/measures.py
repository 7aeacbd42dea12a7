"""What is measured of each dictionary beside its scores, and of dictionaries of different seeds.

Letters: n rows, f features, m facts.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from dtx.analysis.features.coverage import Choice, Counts, Levels
from dtx.analysis.features.data import Sample
from dtx.analysis.features.spec import RANDOM, TRAINED, UNTRAINED, WORLD, FeaturesSpec
from dtx.analysis.features.structure import (
    absorbed,
    agreement,
    board,
    carrying,
    duplicates,
    split,
)


@dataclass(frozen=True)
class Structure:
    """Of one dictionary.

    Attributes:
        board: Mean F1 of the facts of the world as read from the features that carry them.
        carried: Share of the facts that a feature carries.
        absorbed: Mean over facts with a main feature of the share at which that is silent and another feature
            carries the fact; NaN: there is no such fact. main: How many there are.
        split: Mean number of features for most of the recall of those that carry a fact.
        recall: Mean share of a fact's tokens at which a feature carries it, of facts that one carries.
        duplicates: Share of features that another one copies.
    """

    board: float
    carried: float
    absorbed: float
    main: int
    split: float
    recall: float
    duplicates: float


def structure_of(
    spec: FeaturesSpec,
    levels: Levels,
    counts: Counts,
    choice: Choice,
    f1: np.ndarray,
    groups: list[str],
    facts: np.ndarray,
    values: csr_array,
    weight: np.ndarray,
    scored_on: np.ndarray,
    sample: Sample,
) -> Structure:
    """Measure a dictionary.

    Args:
        levels: Of n rows. counts: On the rows that features are chosen on; the first m facts are real.
        choice, f1: Of the facts. groups: m. facts: (n, m) bool. values: (n, f). weight: (n,).
        scored_on: Rows. sample: Some of them, and of the others.
    """
    m = facts.shape[1]
    carries = carrying(counts, spec.precision, m)
    world = np.isin(groups, WORLD)
    taken = absorbed(levels, choice, f1[:m], carries, scored_on, weight, facts, spec.main)
    parts = split(levels, carries, sample.scored_on, weight, facts, spec.recall)
    has_main = f1[:m] >= spec.main
    return Structure(
        board=board(levels, carries[:, :, world], scored_on, weight, facts[:, world])
        if world.any()
        else float("nan"),
        carried=float(carries[:, -1].any(0).mean()),
        absorbed=_mean(taken),
        main=int(has_main.sum()),
        split=_mean(parts.needed),
        recall=_mean(parts.recall[parts.recall > 0]),
        duplicates=duplicates(values[sample.scored_on], weight[sample.scored_on], spec.alike),
    )


@dataclass(frozen=True)
class Agreements:
    """Whether features of one dictionary are in another: the largest correlation of their activations.

    Attributes:
        seeds: Share of the features of a dictionary that another seed's has, one number a pair of seeds.
        untrained: Share that an untrained network's dictionary has, one number a seed and network.
        random: Share that a dictionary of random directions has, one number a seed.
    """

    seeds: list[float]
    untrained: list[float]
    random: list[float]

    def beside(self, structure: Mapping[tuple[str, int], Structure]) -> pd.DataFrame:
        """The table: one row a source and seed."""
        return pd.DataFrame(
            [{"source": n, "seed": seed, **vars(each)} for (n, seed), each in structure.items()]
        )


def agreements(
    samples: Mapping[tuple[str, int], csr_array], weight: np.ndarray, alike: float
) -> Agreements:
    """Compare the model's dictionaries with each other and with controls.

    Args:
        samples: Features (n, f) at the same rows, by source and seed. weight: (n,).
        alike: Correlation from which two features are one.
    """
    of = {
        name: [v for (n, _), v in samples.items() if n == name]
        for name in (TRAINED, UNTRAINED, RANDOM)
    }

    def share(one: csr_array, other: csr_array) -> float:
        r = agreement(one, other, weight)
        return _mean(r[~np.isnan(r)] >= alike)

    return Agreements(
        seeds=[share(a, b) for a, b in itertools.permutations(of[TRAINED], 2)],
        untrained=[share(a, b) for a in of[TRAINED] for b in of[UNTRAINED]],
        random=[share(a, b) for a in of[TRAINED] for b in of[RANDOM]],
    )


def _mean(values: np.ndarray) -> float:
    """The mean of what is not missing; NaN if nothing is there."""
    there = np.asarray(values, float)
    there = there[~np.isnan(there)]
    return float(there.mean()) if len(there) else float("nan")
