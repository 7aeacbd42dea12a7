"""The MLflow run of a job: its parameters, and what all its stages found. ``dtx run`` is one job.

The same command continues the run that it left when it was killed or failed: a command has one run, however
often it is given.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.result import Result
from dtx.config.compose import Experiment
from dtx.report import RESULT, read_metrics
from dtx.running.names import Names
from dtx.running.outcome import StageOutcome
from dtx.store.inventory import Artefact, artefact
from dtx.store.store import current
from dtx.tracking.commands import begin
from dtx.tracking.lineage import Lineage
from dtx.tracking.server import Point, Server, files_in

ROLE = "job"
"""Tag ``dtx.role`` of a job's run."""


@dataclass(frozen=True)
class Job:
    """A job, as its run shows it.

    Attributes:
        names: Of the experiment that it computes.
        title: Name of the run; empty: what the user set.
        parent: Run of the sweep; None for a single job.
    """

    names: Names
    title: str = ""
    parent: str | None = None

    @property
    def experiment(self) -> Experiment:
        """What it computes."""
        return self.names.experiment

    @cached_property
    def command(self) -> str:
        """16 hexadecimal digits, equal for jobs with the same parameters and targets."""
        labels = {name: stage.label for name, stage in self.experiment.targets.items()}
        return digest([self.names.parameters, labels, "job of a sweep" if self.parent else "run"])

    def begin(self, server: Server) -> str:
        """Start the job's run, or go on with the one that the same command left; gives its id.

        Raises:
            UserError: MLflow cannot make it.
        """
        experiment = self.experiment
        tags = {
            "mlflow.source.name": "dtx run -m" if self.parent else "dtx run",
            "dtx.role": ROLE,
            "dtx.targets": ", ".join(experiment.targets),
            "dtx.overrides": " ".join(experiment.overrides)[:5000],
        }
        run_id, known = begin(
            server, self.title or self.names.title, tags, self.command, self.parent
        )
        server.safely(lambda: server.log_params(run_id, self.names.parameters, known))
        return run_id


def digest(values: object) -> str:
    """16 hexadecimal digits of plain values."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def show(
    server: Server,
    run_id: str,
    job: Job,
    outcomes: Sequence[StageOutcome],
    lineage: Lineage,
    error: str = "",
) -> None:
    """Show what the stages of a job found: headline metrics, curves, figures, a table and a description.

    Twice adds nothing: points have the time of the artefacts that they are of.

    Args:
        server: Of MLflow.
        run_id: The job's run.
        job: The job.
        outcomes: Of all its stages, inputs first.
        lineage: Links the stages.
        error: Why the job failed.
    """
    import pandas as pd

    store = current()
    found = _Found(job)
    for outcome in outcomes:
        if store.where(outcome.stage) == "local":
            found.add(outcome, artefact(store.folder(outcome.stage)))
        elif outcome.error:
            found.add_failure(outcome)
    read = {s.label for o in outcomes for s in o.stage.inputs().values()}
    files: dict[str, Path] = {}
    for what in found.artefacts:
        if what.label not in read:
            pictures = files_in(what.folder, "figures")
            # Pages are megabytes each: they are with the run of their stage.
            files |= {place: path for place, path in pictures.items() if path.suffix == ".png"}
    columns = ["role", "stage", "key", "status", "seconds", "established", "result"]
    frame = pd.DataFrame(found.rows, columns=columns)
    tags = {"dtx.stages": ", ".join(a.label for a in found.artefacts)[:5000]}
    if found.established is not None:
        tags["dtx.established"] = str(found.established).lower()
    if error:
        tags["dtx.error"] = error[:5000]
    note = "\n".join([*([f"failed: {error}"] if error else []), *found.lines])
    server.show(run_id, found.points, note, files, {"stages.json": frame}, tags, found.at)
    status = {o.stage.label: o.status for o in outcomes}
    lineage.link(run_id, {a.label: status[a.label] for a in found.artefacts})


class _Found:
    """Collects what the stages of a job found."""

    def __init__(self, job: Job):
        self._roles = job.names.roles
        self._numbers: dict[str, float] = {}
        self._curves: list[Point] = []
        self.artefacts: list[Artefact] = []
        self.rows: list[list] = []
        self.lines: list[str] = []
        self.established: bool | None = None
        self.at: int | None = None

    @property
    def points(self) -> list[Point]:
        """Headline metrics and curves."""
        return [*((name, value, 0) for name, value in self._numbers.items()), *self._curves]

    def add(self, outcome: StageOutcome, what: Artefact) -> None:
        """Add a finished stage."""
        stage, self.artefacts = outcome.stage, [*self.artefacts, what]
        self.at = max(self.at or 0, int(what.finished * 1000) + 999)
        metrics = read_metrics(what.folder)
        shown = stage.headline_of(metrics) if stage.headline else metrics
        # Of equal names the first stage's: what is analysed comes before its controls.
        self._numbers = {k: v for k, v in shown.items() if v is not None} | self._numbers
        established = None
        if (what.folder / RESULT).is_file():
            result = Result.read(what.folder)
            established = result.established
            self.established = established and self.established is not False
            if isinstance(stage, Analysis):
                named = ((f"{stage.name} {name}", at, v) for name, at, v in stage.curves(result))
                self._curves += [(name, value, at) for name, at, value in named]
        summary = str(what.record.get("summary") or stage.summary())
        self._add(outcome, established, summary)

    def add_failure(self, outcome: StageOutcome) -> None:
        """Add a stage that failed or was skipped."""
        self._add(outcome, None, outcome.error)

    def _add(self, outcome: StageOutcome, established: bool | None, text: str) -> None:
        stage, status = outcome.stage, outcome.status
        role = self._roles.get(stage.label, stage.name)
        seconds = round(outcome.seconds, 1)
        self.rows.append([role, stage.name, stage.key, status, seconds, established, text])
        self.lines.append(f"- **{role}** ({status}): {text}")
