"""How fast this machine is beside the one on which the reference timings were taken.

Stages say in :meth:`dtx.stage.Stage.resources` how many seconds they take on one core of the reference
machine (:mod:`dtx.resources`). A quick measurement, without torch, scales them to this one.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable

import numpy as np

_PRODUCTS = (
    1.13e11  # of the reference machine: operations a second in small float32 matrix products
)
_STEPS = 2.0e7  # of the same: turns a second of a Python loop, as environments have
_SECONDS = 0.03  # for each of the two measurements


@functools.cache
def relative_speed() -> float:
    """Speed of a core here as a multiple of the reference core's; measured once a process, in 60 ms.

    Half by matrix products, as in models, half by a Python loop, as in environments. The fastest of many
    short tries counts: a busy machine is measured as if it were idle.
    """
    return math.sqrt(_rate(_products) / _PRODUCTS * _rate(_loop) / _STEPS)


def _rate(work: Callable[[], int]) -> float:
    """Operations a second in the fastest of the tries."""
    end = time.perf_counter() + _SECONDS
    best, now = 0.0, 0.0
    while now < end:
        start = time.perf_counter()
        count = work()
        now = time.perf_counter()
        best = max(best, count / (now - start))
    return best


def _products(count: int = 16, width: int = 64) -> int:
    """So small that the library takes one core for each."""
    matrices = np.ones((count, width, width), np.float32)
    np.matmul(matrices, matrices)
    return 2 * count * width**3


def _loop(steps: int = 5000) -> int:
    total = 0
    for i in range(steps):
        total += i * i % 7
    return steps
