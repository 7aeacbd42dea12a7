"""What a stage needs of the machine, estimated from the sizes in its config before anything runs.

Coarse on purpose: memory and time of most stages are within a factor of three of what was measured once
(``tests/running/test_room.py`` names the stages), disk is a bound. It is there to refuse what cannot fit, and to
tell a week from a minute. Every number grows with every size that it follows from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

PROCESS = 430e6
"""Bytes of a process that has imported torch and plays an environment (2026-11-30)."""
OPERATIONS = 1e11
"""Multiplications and additions of float32 numbers that a core does in a second (2026-11-30)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resources:
    """What a stage needs.

    Attributes:
        memory: Bytes at its peak beyond those of any process, by the fields that they follow from.
        disk: Bytes that it writes to the store, likewise.
        seconds: Of work on one core.
        gpus: CUDA devices.
    """

    memory: Mapping[str, float] = dataclasses.field(default_factory=dict)
    disk: Mapping[str, float] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    gpus: int = 0

    @property
    def all_memory(self) -> float:
        """Bytes of the process at its peak."""
        return PROCESS + sum(self.memory.values())

    @property
    def all_disk(self) -> float:
        """Bytes in the store."""
        return sum(self.disk.values())


def largest(parts: Mapping[str, float]) -> str:
    """The fields that most of it follows from: of the largest part, and of every one of half its size."""
    most = max(parts.values(), default=0.0)
    return ", ".join(fields for fields, size in parts.items() if size >= most / 2)
