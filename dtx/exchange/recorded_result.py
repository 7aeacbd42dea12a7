"""The result of an artefact, if an analysis made it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dtx.analysis.core.result import Result
from dtx.report import RESULT


def recorded_result(folder: Path, record: Mapping[str, Any]) -> Result | None:
    """The result of an analysis; None for an artefact of another kind of stage.

    An analysis of dtx from before ``result.json`` gives its metrics, and is not established.

    Args:
        folder: The artefact's.
        record: Its ``done.json``.
    """
    of_analysis = str(record.get("class", "")).startswith("dtx.analysis.")
    return Result.read(folder) if of_analysis or (folder / RESULT).is_file() else None
