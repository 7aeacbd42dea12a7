"""What controls of several analyses share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from dtx.config.ranges import Range

if TYPE_CHECKING:
    from dtx.dt.model import DecisionTransformerModel

TWINS = 5
"""Untrained models that a model's number is compared with (2026-11-29): one more of them lies above the 95%
interval of :func:`~dtx.statistics.next_estimate` in one of forty cases, and its half width is three of their
standard deviations (of 3 it would be five, of 10 two and a half)."""

STRONGEST = 0.95
"""Quantile of the random controls that a number must exceed."""
RandomControls = Annotated[int, Range("a 95% quantile needs at least 20", low=20)]
"""How many random controls are drawn, of which a high quantile is taken."""


def twins(
    model: DecisionTransformerModel, seed: int, count: int = TWINS
) -> Iterator[DecisionTransformerModel]:
    """Yield the same architecture untrained, from seeds ``seed``, ``seed + 1``, ...: not one draw's luck."""
    from dtx.dt.load import untrained_like

    for each in range(seed, seed + count):
        yield untrained_like(model, each)
