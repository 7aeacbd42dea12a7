"""The settings, explained in ``conf/analysis/features.yaml``, and the names of what is compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from dtx.activations.spec import TokenKind
from dtx.config.ranges import AT_MOST, Count, NotEmpty, OpenShare, PositiveShare, Range, Seed

Levels = Annotated[int, Range("must lie between 1 and 100", low=1, high=100)]
"""Thresholds of a feature: a level fits into a byte."""
Networks = Annotated[int, Range("an interval needs at least 2 networks", low=2, high=100)]
Shuffled = Annotated[int, Range("a limit of 5% needs at least 100 of them", low=100), AT_MOST]


@dataclass(frozen=True, kw_only=True)
class FeaturesSpec:
    """Which facts, how features are read, and what they are held against."""

    facts: dict[str, str]
    least: OpenShare
    tokens: Annotated[tuple[TokenKind, ...], NotEmpty("needs at least one kind")] | None
    rows: Count | None
    thresholds: Levels
    untrained: Networks
    shuffled: Shuffled
    sample: Count
    sparse: Annotated[tuple[Count, ...], NotEmpty("needs at least one size")]
    precision: PositiveShare
    main: PositiveShare
    recall: PositiveShare
    alike: PositiveShare
    seed: Seed


TRAINED, UNTRAINED, FROZEN, INPUT = "trained", "untrained", "frozen decoder", "input"
SOFT_FROZEN, FROZEN_ENCODER = "soft frozen decoder", "frozen encoder"
RANDOM, DIMENSIONS, PCA = "random", "bare dimensions", "principal components"
ALWAYS_ON = "always on"
"""What features are of: the table's column ``source``."""
RIVALS = (ALWAYS_ON, INPUT, UNTRAINED, FROZEN)
"""What a feature must beat: its margin is over the best of them, fact by fact."""
WORLD = ("view", "earlier", "hidden")
"""Groups of facts that make up the board: what is true of the world."""
SHUFFLED, OF_VIEWS = "shuffled", "random label of each view"
"""Groups of facts that are none: their share that is found must be small."""
FALSE_SHARE = 0.05
"""Largest share of such facts that may come out (2026-11-30)."""
