"""The MLflow run of a sweep: a table of its jobs, failures, what the swept fields do, and figures of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dtx.config.compose import TrackingConfig
from dtx.errors import Interrupted
from dtx.running.outcome import StageOutcome
from dtx.running.plan import stages
from dtx.running.processes import marked
from dtx.running.signals import defer_signals
from dtx.store.inventory import Artefact
from dtx.store.store import current
from dtx.tracking.commands import begin, children
from dtx.tracking.job_run import Job, digest, show
from dtx.tracking.lineage import Lineage
from dtx.tracking.mirror import make_up
from dtx.tracking.server import Point, Server


class SweepRun:
    """The MLflow run of a sweep, while the sweep runs.

    Args:
        server: Of MLflow.

    Attributes:
        run_id: The run, parent of the jobs' runs; empty before it is started.
    """

    def __init__(self, server: Server):
        self.server, self.run_id = server, ""
        self.any_failed = False

    def finish(
        self,
        rows: Sequence[Mapping[str, Any]],
        note: str,
        figures: Sequence[Path],
        points: Sequence[Point],
        jobs: Sequence[EndedJob],
    ) -> None:
        """Show the jobs (one row each), a description in Markdown and figures; end the jobs' runs.

        Args:
            rows: Swept fields, ``status`` and numbers of each job.
            note: The description.
            figures: PNG files.
            points: Numbers of the sweep as a whole, and curves over what is swept.
            jobs: All jobs.
        """

        def send() -> None:
            import pandas as pd

            frame = pd.DataFrame(list(rows))
            counts = frame["status"].value_counts()
            shown = [(f"jobs/{status}", float(n), 0) for status, n in counts.items()]
            files = {f"compare/{path.name}": path for path in figures}
            tables = {"jobs.json": frame}
            self.server.show(self.run_id, [*shown, *points], note, files, tables)

        self.any_failed = any(row["status"] == "failed" for row in rows)
        self._end_jobs(jobs)
        self.server.safely(send)

    def _end_jobs(self, jobs: Sequence[EndedJob]) -> None:
        """Give a run to jobs that have none, as nothing was left to run, and end those of killed workers."""
        shown = self.server.safely(lambda: children(self.server, self.run_id)) or {}
        lineage = Lineage(self.server)
        for ended in jobs:
            job = replace(ended.job, parent=self.run_id)
            run = shown.get(job.command)
            if run and run.info.status in ("FINISHED", "FAILED") and ended.ran:
                continue  # its worker has shown it
            if run and run.info.status == "FINISHED":
                continue
            self.server.safely(lambda job=job, ended=ended: self._show(job, ended, lineage))

    def _show(self, job: Job, ended: EndedJob, lineage: Lineage) -> None:
        run_id, status = job.begin(self.server), "FAILED"
        try:
            show(self.server, run_id, job, ended.outcomes(), lineage, ended.error)
            status = "FAILED" if ended.error else "FINISHED"
        except Interrupted:
            status = "KILLED"
            raise
        finally:
            self.server.client.set_terminated(run_id, status)


@dataclass(frozen=True)
class EndedJob:
    """What became of a job of a sweep.

    Attributes:
        job: The job.
        made: Labels of the stages that were executed in this sweep.
        failed: Errors by label.
        ran: Whether a worker ran it to its end, so that its run is complete.
        error: Why it failed or was not run; empty: it is done.
    """

    job: Job
    made: Collection[str]
    failed: Mapping[str, str]
    ran: bool
    error: str

    def outcomes(self) -> list[StageOutcome]:
        """Of all stages of the job, inputs first."""
        store, found = current(), []
        for stage in stages(self.job.experiment.targets.values()):
            if store.where(stage) == "local":
                status = "ran" if stage.label in self.made else "reused"
                found.append(StageOutcome(stage, status))
            elif stage.label in self.failed:
                found.append(StageOutcome(stage, "failed", error=self.failed[stage.label]))
            else:
                found.append(StageOutcome(stage, "skipped" if self.error else "not needed"))
        return found


def command_of(jobs: Sequence[Job]) -> str:
    """16 hexadecimal digits, equal for sweeps with the same jobs."""
    return digest(sorted(job.command for job in jobs))


@contextmanager
def open_sweep(
    tracking: TrackingConfig,
    *,
    name: str,
    identity: str,
    jobs: Callable[[], Sequence[Job]],
    overrides: Sequence[str],
    config: Mapping[str, Any],
    parameters: Mapping[str, str],
    note: str,
    made_from: Callable[[], Sequence[Artefact]],
) -> Iterator[SweepRun | None]:
    """The run of a sweep; None with tracking off.

    Args:
        tracking: The server and its experiment.
        name: Of the run.
        identity: Equal for sweeps with the same targets; :func:`log_to_sweep` finds the run by it.
        jobs: Gives all jobs that can be composed.
        overrides: From the command line.
        config: Of the first job, resolved.
        parameters: Of the run.
        note: The description until there are results.
        made_from: Gives the artefacts that are there already, inputs first.
    """
    if not tracking.enabled:
        yield None
        return
    server = Server(tracking)
    tags = {
        "mlflow.source.name": "dtx run -m",
        "dtx.role": "sweep",
        "dtx.sweep": identity,
        "dtx.overrides": " ".join(overrides)[:5000],
        "mlflow.note.content": note,
    }
    with marked(current().root) as mark:
        run, status = SweepRun(server), "FAILED"
        try:
            with defer_signals():  # a signal between a run's start and its id would lose the run
                run.run_id, known = begin(server, name, tags, command_of(jobs()))
            server.safely(lambda: server.log_config(run.run_id, config))
            server.safely(lambda: server.log_params(run.run_id, dict(parameters), known))
            make_up(server, made_from(), run.run_id)
            yield run
            status = "FAILED" if run.any_failed else "FINISHED"
        except Interrupted:
            status = "KILLED"
            raise
        finally:
            if run.run_id:
                server.end(run.run_id, status)
            mark.stays = server.broken is not None


def log_to_sweep(config: TrackingConfig, identity: str, figures: Sequence[Path]) -> str | None:
    """Add figures to the newest run of a sweep.

    Returns:
        The run's name and id for a message, or None if the sweep has no run here.
    """
    server = Server(config)
    query = f"tags.`dtx.sweep` = '{identity}'"
    newest = server.client.search_runs(
        [server.experiment_id], query, max_results=1, order_by=["attributes.start_time DESC"]
    )
    if not newest:
        return None
    run = newest[0].info
    for path in figures:
        server.client.log_artifact(run.run_id, str(path), "compare")
    return f"{run.run_name} ({run.run_id})"
