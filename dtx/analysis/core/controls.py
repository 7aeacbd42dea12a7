"""What controls of several analyses share."""

from __future__ import annotations

from typing import Annotated

from dtx.config.ranges import Range

STRONGEST = 0.95
"""Quantile of the random controls that a number must exceed."""
RandomControls = Annotated[int, Range("a 95% quantile needs at least 20", low=20)]
"""How many random controls are drawn, of which a high quantile is taken."""
