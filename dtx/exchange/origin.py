"""Where a loaded artefact stands and what is recorded about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dtx.env.environment import Environment
from dtx.stage import Stage
from dtx.store.store import Store

LINEAGE = "lineage.json"
"""In an exported folder: the records of the model and of its inputs."""


@dataclass(frozen=True)
class Origin:
    """Where a loaded artefact stands and what is recorded about it.

    Attributes:
        folder: Its files, verified.
        record: Its ``done.json``.
        records: The records of all that it was made from, by label, as far as they are there.
        store: None for an exported folder.
        config_dir: The user's own configs.
        stage: The stage, where a config named it.
        env: The environment of this config.
    """

    folder: Path
    record: Mapping[str, Any]
    records: Mapping[str, Mapping[str, Any]]
    store: Store | None
    config_dir: Path | None
    stage: Stage | None = None
    env: Environment | None = None
