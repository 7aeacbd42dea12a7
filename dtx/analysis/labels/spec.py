"""The settings of labels, and who may write labels beside the trees; see ``conf/analysis/labels.yaml``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np

from dtx.config.ranges import Natural, OpenShare, Range, Seed

TRAINED, UNTRAINED = "trained", "untrained"
RANDOM, PER_VIEW, SHUFFLED = "random features", "random label per view", "shuffled activations"
"""Sources of features: the dictionary, and the controls."""
NAMED, INPUT_ONLY, UNNAMED = "named", "input-only", "unnamed"
"""Verdicts on a feature."""
DEPTH = 3
SIMPLER = 0.01
"""F1 that a deeper tree must add on the rows it is fitted to, so that its longer label is taken."""
LEAF = 0.001
"""Least share of the tokens in a leaf: a fact that is rarer than that names nothing."""
FEWEST = 10
"""Rows of each half at which a feature must be on to be judged."""
UNNAMED_SHUFFLED = 0.05
"""Share of features of shuffled activations that may get a name (2026-11-30)."""


@dataclass(frozen=True)
class State:
    """A token as a labeller is shown it.

    Attributes:
        text: The view drawn with letters, and what else the model reads there.
        activation: Of the feature.
    """

    text: str
    activation: float


class Labeller(Protocol):
    """Writes labels from drawn states: a language model, or people. Off by default."""

    def label(self, states: Sequence[State]) -> str:
        """What the feature answers to: a label of states, the strongest first and states without it last."""
        ...

    def detect(self, label: str, states: Sequence[str]) -> Sequence[bool]:
        """Which of some drawn states a label describes: one answer a state."""
        ...


class FactsOfRows(Protocol):
    """What labels need to know of the stored rows; :class:`dtx.activations.facts.FactTable` is one.

    Attributes:
        names: (m) of the facts, readable.
        values: (r, m) bool. group: (m) by what each is told.
    """

    names: list[str]
    values: np.ndarray
    group: list[str]

    def inputs(self) -> np.ndarray:
        """(r, c) uint8: what the raw input of each token tells."""
        ...


@dataclass(frozen=True, kw_only=True)
class LabelsSpec:
    """On how many rows labels are fitted, and what a label must reach."""

    facts: dict[str, str]
    rows: Annotated[int, Range("must be 200 to 10 million rows", low=200, high=10**7)]
    depth: Annotated[int, Range(f"goes from 1 to {DEPTH}: deeper trees are no labels", 1, DEPTH)]
    least: OpenShare
    untrained: Annotated[int, Range("must be 2 to 10 networks", low=2, high=10)]
    labeller: Labeller | None
    labelled: Natural
    shown: Annotated[int, Range("must be 2 to 50 states", low=2, high=50)]
    seed: Seed
