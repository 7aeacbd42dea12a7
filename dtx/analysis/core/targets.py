"""The two rewards-to-go that claims compare, and how far apart policies must be to differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

from dtx.config.ranges import Range

Divergence = Annotated[
    float,
    Range(
        "must lie between 0 and ln 2 = 0.693 nats",
        low=0,
        high=0.693,
        open_low=True,
        open_high=True,
    ),
]
"""A Jensen-Shannon divergence that can be exceeded and need not be."""


def check_targets(targets: Sequence[float], low: float, high: float) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the two targets that claims compare."""
    for name, value in (("low", low), ("high", high)):
        if value not in targets:
            yield name, f"{value:g} must be one of the targets"
    if low >= high:
        yield "high", f"{high:g} must be above the low target, {low:g}"
