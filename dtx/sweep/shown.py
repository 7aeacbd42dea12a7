"""What a sweep shows in MLflow: a run of its own, and one for each job."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path

from dtx.progress import console
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
        self._known: dict[int, Job] = {}

    @property
    def command(self) -> str:
        """What the sweep's run is found by."""
        jobs = list(self._jobs().values()) if self._sweep.knows_its_jobs else []
        return command_of(self._sweep.identity, jobs)

    def print_review(self) -> None:
        """Print where to look at the runs; nothing with tracking off."""
        from dtx.tracking.links import review

        tracking = self._sweep.first.tracking
        if tracking.enabled:
            line = review(tracking, lambda: self.command)
            console.print(line, soft_wrap=True, highlight=False, markup=False)

    def open(self) -> AbstractContextManager[SweepRun | None]:
        """The run of the sweep while it runs; None with tracking off."""
        sweep, first = self._sweep, self._sweep.first
        return open_sweep(
            first.tracking,
            name=f"{first.name} over {', '.join(sweep.swept)}" if sweep.swept else first.name,
            identity=sweep.identity,
            command=self.command if first.tracking.enabled else "",
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
            for number, job in self._jobs().items()
        ]
        description = note(sweep, comparison, len(ran))
        shown.finish(rows, description, comparison.paths, points, jobs)

    def _jobs(self) -> dict[int, Job]:
        """The jobs so far that can be composed, by number."""
        for job in self._sweep.jobs:
            if job.experiment and job.number not in self._known:
                name = title(job.swept) or job.experiment.name
                self._known[job.number] = Job(Names(job.experiment), name)
        return self._known

    @cached_property
    def _first_jobs(self) -> dict[str, int]:
        """The number of the first job that needs each stage, by its label."""
        return {label: jobs[0].number for label, jobs in self._sweep.stages_of_jobs().items()}

    def _record(self, stage: Stage) -> Mapping[str, object]:
        """Role and parameters of a stage, as its first job names them."""
        return self._jobs()[self._first_jobs[stage.label]].names.record(stage)


def _headline(sweep: Sweep, store: Store, rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Names of the headline metrics of what is not the same in all jobs.

    Of a stage that declares none, its metrics that differ between jobs.
    """
    names: dict[str, None] = {}
    jobs_of, count = sweep.stages_of_jobs(), len(sweep.jobs)
    for stage in stages(sweep.targets()):
        if len(jobs_of[stage.label]) == count > 1:
            continue
        if stage.headline:
            names |= dict.fromkeys(stage.headline_of({}))
        elif store.where(stage) == "local":
            measured = read_metrics(store.folder(stage))
            differ = [m for m in measured if len({row.get(m) for row in rows}) > 1]
            names |= dict.fromkeys(differ)
    return list(names)
