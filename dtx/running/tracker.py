"""What the runner asks of tracking; :mod:`dtx.tracking` implements it with MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from dtx.running.outcome import StageOutcome
from dtx.stage import Stage


class StageTracker(Protocol):
    """Tracks one stage while it runs."""

    @property
    def reference(self) -> Mapping[str, str]:
        """Where the stage is shown, for ``done.json``: ``uri``, ``run_id``, ``model_id``; can be empty."""
        ...

    def committed(self, folder: Path, record: Mapping[str, Any], summary: str) -> None:
        """Show the results of the committed artefact.

        Args:
            folder: The artefact's.
            record: Its ``done.json``.
            summary: One sentence on the result.
        """
        ...


class Tracker(Protocol):
    """Tracks the run of an experiment."""

    @property
    def overrides(self) -> tuple[str, ...]:
        """What the user gave on the command line."""
        ...

    def stage(self, stage: Stage, work: Path) -> AbstractContextManager[StageTracker]:
        """Track a stage that runs in the block and writes to ``work``."""
        ...

    def finish(self, outcomes: Sequence[StageOutcome]) -> None:
        """Show the results of all stages."""
        ...

    def raise_if_broken(self, store: Path) -> None:
        """Raise a UserError if the connection was lost; all results are in ``store`` by then."""
        ...
