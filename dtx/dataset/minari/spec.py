"""Which Minari dataset is read, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dtx.config.ranges import Seed, ShareBelowOne
from dtx.env.environment import Environment
from dtx.stage import RUNTIME


@dataclass(frozen=True, kw_only=True)
class MinariSpec:
    """Settings of reading; conf/dataset/minari.yaml explains each."""

    id: str
    root: Path | None = field(metadata=RUNTIME)
    download: bool = field(metadata=RUNTIME)
    digest: str | None
    env: Environment
    validation: ShareBelowOne
    seed: Seed
