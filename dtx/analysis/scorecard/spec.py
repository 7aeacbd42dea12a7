"""What a scorecard holds analyses to; ``conf/analysis/scorecard.yaml`` explains the fields."""

from __future__ import annotations

from dataclasses import dataclass

from dtx.config.ranges import Share

T0, T1, T4 = "T0", "T1", "T4"
"""Models: compiled, trained to a circuit, and negatives, in which there is nothing to find."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A number that a gate holds scores to, with its history.

    Attributes:
        value: The number.
        since: The day from which it has this value, as 2026-11-29. A change needs a line in CHANGELOG.md.
        reason: Why this value.
    """

    value: Share
    since: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Limits:
    """All that can be set; exact is exact, and tolerances are the model's own (``circuit.json``).

    Attributes:
        found: Share of a decision from which a node, an edge or a component counts as found.
        least_auroc: For a ranking, in T1, and of estimates in T0.
        most_false_positives: Of a part of an analysis' answers in T4, and of estimates in T0.
        most_statements: Of all statements about a negative.
    """

    found: Limit
    least_auroc: Limit
    most_false_positives: Limit
    most_statements: Limit


@dataclass(frozen=True, kw_only=True)
class ScorecardSpec:
    """Thresholds, and what cannot be asked."""

    skip: dict[str, tuple[str, ...]]
    gates: Limits
