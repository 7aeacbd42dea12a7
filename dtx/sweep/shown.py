"""What a sweep shows in MLflow: a run of its own, and one for each job."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path

from dtx.report import read_metrics
from dtx.running.names import Names, title
from dtx.running.plan import stages
from dtx.stage import Stage
from dtx.store.store import Store
from dtx.sweep.compare import compare
from dtx.sweep.curves import over_swept
from dtx.sweep.grid import Sweep
from dtx.sweep.summary import note, parameters
from dtx.tracking import EndedJob, Job, SweepRun, artefacts_of, command_of, open_sweep


class ShownSweep:
    """How a sweep is shown.

    Args:
        sweep: With its jobs.
    """

    def __init__(self, sweep: Sweep):
        self._sweep = sweep

    @property
    def command(self) -> str:
        """What the sweep's run is found by."""
        return command_of(list(self._jobs.values()))

    def open(self) -> AbstractContextManager[SweepRun | None]:
        """The run of the sweep while it runs; None with tracking off."""
        sweep, first = self._sweep, self._sweep.first
        return open_sweep(
            first.tracking,
            name=f"{first.name} over {', '.join(sweep.swept)}" if sweep.swept else first.name,
            identity=sweep.identity,
            jobs=lambda: list(self._jobs.values()),
            overrides=sweep.overrides,
            config=first.config(),
            parameters=parameters(sweep),
            note=f"{len(sweep.jobs)} jobs, running",
            made_from=lambda: artefacts_of(stages(sweep.targets()), self._record),
        )

    def finish(
        self,
        shown: SweepRun,
        store: Store,
        folder: Path,
        ran: Collection[str],
        failed: Mapping[str, str],
        launched: Collection[int],
    ) -> None:
        """Show the results of the sweep and of its jobs, which have their status.

        Args:
            shown: The sweep's run.
            store: Where the artefacts are.
            folder: Of the sweep; figures are made there.
            ran: Labels of the stages that were executed.
            failed: Errors by label.
            launched: Numbers of the jobs that a worker ran to their end.
        """
        sweep = self._sweep
        comparison = compare(sweep, store, folder / "compare")
        rows = comparison.rows
        points = over_swept(rows, sweep.swept, _headline(sweep, store, rows))
        jobs = [
            EndedJob(job, ran, failed, number in launched, sweep.jobs[number].error)
            for number, job in self._jobs.items()
        ]
        description = note(sweep, comparison, len(ran))
        shown.finish(rows, description, comparison.paths, points, jobs)

    @cached_property
    def _jobs(self) -> dict[int, Job]:
        """The jobs that can be composed, by number."""
        return {
            job.number: Job(Names(job.experiment), title(job.swept) or job.experiment.name)
            for job in self._sweep.jobs
            if job.experiment
        }

    @cached_property
    def _first_jobs(self) -> dict[str, int]:
        """The number of the first job that needs each stage, by its label."""
        return {label: jobs[0].number for label, jobs in self._sweep.stages_of_jobs().items()}

    def _record(self, stage: Stage) -> Mapping[str, object]:
        """Role and parameters of a stage, as its first job names them."""
        return self._jobs[self._first_jobs[stage.label]].names.record(stage)


def _headline(sweep: Sweep, store: Store, rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Names of all headline metrics; of a stage that declares none, its metrics that differ between jobs."""
    names: dict[str, None] = {}
    for stage in stages(sweep.targets()):
        if stage.headline:
            names |= dict.fromkeys(stage.headline_of({}))
        elif store.where(stage) == "local":
            measured = read_metrics(store.folder(stage))
            differ = [m for m in measured if len({row.get(m) for row in rows}) > 1]
            names |= dict.fromkeys(differ)
    return list(names)
