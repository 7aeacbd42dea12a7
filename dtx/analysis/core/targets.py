"""The two rewards-to-go that claims compare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def check_targets(targets: Sequence[float], low: float, high: float) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the two targets that claims compare."""
    for name, value in (("low", low), ("high", high)):
        if value not in targets:
            yield name, f"{value:g} must be one of the targets"
    if low >= high:
        yield "high", f"{high:g} must be above the low target, {low:g}"
