"""What features are scored on: rows in two halves, facts, and facts that are none.

Letters: n rows, m facts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dtx.activations.prefixes import drawn_share
from dtx.activations.stored import Activations
from dtx.analysis.features.spec import FeaturesSpec
from dtx.dt.tokens import KINDS
from dtx.errors import UserError

if TYPE_CHECKING:
    from dtx.activations.facts import FactTable

GROUPS = 25
"""Groups of episodes of which intervals are made: below 30 they are Student's t."""
HALF, HALVES, EPISODES, ROWS, FALSE = 0.5, 7, 8, 9, 10
"""What is drawn by the seed; numbers keep the draws apart."""


@dataclass(frozen=True)
class Sample:
    """Some rows of both halves, for what is too slow on all of them.

    Attributes:
        chosen_on, scored_on: Of the n rows, sorted.
    """

    chosen_on: np.ndarray
    scored_on: np.ndarray

    @staticmethod
    def of(
        rng: np.random.Generator, chosen_on: np.ndarray, scored_on: np.ndarray, most: int
    ) -> Sample:
        """At most so many rows of each half."""
        drawn = [
            np.sort(rng.choice(half, most, replace=False)) if len(half) > most else half
            for half in (chosen_on, scored_on)
        ]
        return Sample(*drawn)

    @property
    def both(self) -> np.ndarray:
        """All of them, those that are chosen on first."""
        return np.concatenate([self.chosen_on, self.scored_on])

    @property
    def first(self) -> np.ndarray:
        """Places in :attr:`both` of those that are chosen on."""
        return np.arange(len(self.chosen_on))

    @property
    def second(self) -> np.ndarray:
        """Places of the others."""
        return np.arange(len(self.chosen_on), len(self.chosen_on) + len(self.scored_on))


@dataclass(frozen=True)
class Data:
    """Rows, the facts at them, and what they are divided into.

    Attributes:
        rows: (n,) numbers of stored rows. weight: (n,) how often each occurs.
        facts: (n, m + false) bool: facts, then shuffled ones and random labels of each view.
        names, groups: Of all of them. real: The first m.
        chosen_on, scored_on: Of the n rows: two halves of the prefixes.
        group: (n,) which group of episodes.
        sample: Rows of both halves for probes and for what is measured among features.
    """

    rows: np.ndarray
    weight: np.ndarray
    facts: np.ndarray
    names: list[str]
    groups: list[str]
    real: slice
    chosen_on: np.ndarray
    scored_on: np.ndarray
    group: np.ndarray
    sample: Sample

    @property
    def base_rate(self) -> np.ndarray:
        """(m,) share of the tokens at which each fact is true."""
        weight = self.weight / self.weight.sum()
        return np.array([weight[column].sum() for column in self.facts[:, self.real].T])


def prepared(spec: FeaturesSpec, stored: Activations, table: FactTable, rows: np.ndarray) -> Data:
    """Halves, groups of episodes, and facts that are none."""
    columns = {name: stored.columns[name][rows] for name in ("prefix", "episode", "view")}
    weight = stored.columns["count"][rows].astype(np.int64)
    half = drawn_share(int(columns["prefix"].max()) + 1, HALF, spec.seed, HALVES)
    chosen = half[columns["prefix"]]
    chosen_on, scored_on = np.flatnonzero(chosen), np.flatnonzero(~chosen)
    rng = np.random.default_rng([spec.seed, EPISODES])
    order = rng.permutation(int(columns["episode"].max()) + 1)
    group = np.unique(order[columns["episode"]] % GROUPS, return_inverse=True)[1]
    # A fact that is never true in one of the halves can be neither chosen for nor scored.
    there = table.values[chosen_on].any(0) & table.values[scored_on].any(0)
    facts = table.values[:, there]
    kept = np.flatnonzero(there)
    m = len(kept)
    none = _false_facts(spec, facts, columns["view"]) if m else np.zeros((len(rows), 0), bool)
    rng = np.random.default_rng([spec.seed, ROWS])
    sample = Sample.of(rng, chosen_on, scored_on, spec.sample)
    return Data(
        rows=rows,
        weight=weight,
        facts=np.concatenate([facts, none], 1),
        names=[table.names[i] for i in kept],
        groups=[table.group[i] for i in kept],
        real=slice(0, m),
        chosen_on=chosen_on,
        scored_on=scored_on,
        group=group,
        sample=sample,
    )


def _false_facts(spec: FeaturesSpec, facts: np.ndarray, view: np.ndarray) -> np.ndarray:
    """(n, 2 shuffled) bool: facts with their rows shuffled, then a random label of each view.

    A label of each view is no fact of the world, but all that sees the view can tell it: the input, and any
    network. What is beyond both must not tell it.
    """
    rng = np.random.default_rng([spec.seed, FALSE])
    n, m = facts.shape
    out = np.zeros((n, 2 * spec.shuffled), bool)
    for column in range(spec.shuffled):
        out[:, column] = facts[rng.permutation(n), rng.integers(m)]
    _, index = np.unique(view, return_inverse=True)
    for column in range(spec.shuffled, 2 * spec.shuffled):
        out[:, column] = (rng.random(index.max() + 1) < rng.uniform(0.1, 0.5))[index]
    return out


def drawn_rows(spec: FeaturesSpec, stored: Activations) -> np.ndarray:
    """(n,) sorted numbers of the rows that are looked at: of the kinds of tokens; so many, by the seed.

    Raises:
        UserError: No tokens of these kinds are stored.
    """
    rows = np.arange(len(stored))
    if spec.tokens is not None:
        codes = [KINDS.index(kind.value) for kind in spec.tokens]
        rows = np.flatnonzero(np.isin(stored.columns["kind"], codes))
    if not len(rows):
        kinds = ", ".join(kind.value for kind in spec.tokens or ())
        raise UserError(f"{stored.folder.name}: no activations of tokens {kinds}")
    if spec.rows is None or spec.rows >= len(rows):
        return rows
    rng = np.random.default_rng([spec.seed, ROWS, len(rows)])
    return np.sort(rng.choice(rows, spec.rows, replace=False))
