"""On what a model is trained: fields that say how to compute, not what, so no key depends on them."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass


class Accelerator(enum.Enum):
    """``cpu``: cores, one torch thread a process; ``gpu``: CUDA devices."""

    cpu = "cpu"
    gpu = "gpu"


class Strategy(enum.Enum):
    """``auto``: no strategy for one device, ``ddp`` for several; ``ddp``: data-parallel processes."""

    auto = "auto"
    ddp = "ddp"


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """The devices that share every batch of a training; conf/dt/memory_dt.yaml says what each means."""

    accelerator: Accelerator
    devices: int
    strategy: Strategy

    @property
    def parallel(self) -> bool:
        """Whether training runs in processes of its own, one a device."""
        return self.devices > 1 or self.strategy is Strategy.ddp

    def check(self) -> Iterator[tuple[str, str]]:
        if self.devices < 1:
            yield "devices", "must be at least 1"
