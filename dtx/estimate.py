"""A number with its interval, and what that rests on: what :mod:`dtx.statistics` gives."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval, and what that rests on.

    Attributes:
        value: The number. low, high: Ends of the interval; NaN if there is none.
        n: Independent observations behind it (clusters, not rows).
        kind: How the interval was made: "t over 4 layouts".
        sampled: Not so where all cases there are were computed.
    """

    value: float
    low: float
    high: float
    n: int
    kind: str
    sampled: bool = True

    def columns(self) -> dict[str, float | int | str]:
        """What stands beside a number in a table: low, high, n, interval."""
        return {"low": self.low, "high": self.high, "n": self.n, "interval": self.kind}

    def __str__(self) -> str:
        if self.low == self.high == self.value or math.isnan(self.low):
            return f"{self.value:.3g} ({self.kind})"
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}] ({self.kind})"


@dataclass(frozen=True)
class Estimates:
    """Estimates of many columns.

    Attributes:
        value, low, high: (columns,). n: (columns,) int. kind: One a column.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: np.ndarray
    kind: list[str]

    def columns(self) -> dict[str, np.ndarray | list[str]]:
        """What stands beside the numbers in a table: low, high, n, interval."""
        return {"low": self.low, "high": self.high, "n": self.n, "interval": self.kind}

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, column: int) -> Estimate:
        low, value, high = (float(x[column]) for x in (self.low, self.value, self.high))
        return Estimate(value, low, high, int(self.n[column]), self.kind[column])
