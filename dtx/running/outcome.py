"""What happened to a stage in a run."""

from __future__ import annotations

from dataclasses import dataclass

from dtx.stage import Stage


@dataclass
class StageOutcome:
    """What happened to one stage.

    Attributes:
        status: ``ran``, ``reused``, ``pulled`` (from the remote store), ``not needed`` (what depends on it
            is done), ``failed`` or ``skipped``.
        error: Why it failed or was skipped.
        defect: It failed by an exception that is no UserError: a fault of the program.
    """

    stage: Stage
    status: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    error: str = ""
    defect: bool = False
