"""Training devices; not part of the key, because they say how to compute and not what."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from dtx.config.ranges import Count


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
    """The devices that share every batch of a training; conf/dt/memory_dt.yaml explains each field."""

    accelerator: Accelerator
    devices: Count
    strategy: Strategy

    @property
    def parallel(self) -> bool:
        """Whether training runs in separate processes, one per device."""
        return self.devices > 1 or self.strategy is Strategy.ddp
