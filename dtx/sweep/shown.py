"""What a sweep shows in MLflow: a run of its own, and one for each job."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from dtx.report import read_metrics
from dtx.run.names import Names, title
from dtx.run.plan import stages
from dtx.stage import Stage
from dtx.store.store import Store
from dtx.sweep.compare import compare
from dtx.sweep.curves import over_swept
from dtx.sweep.grid import Sweep
from dtx.sweep.summary import note, parameters
from dtx.tracking import EndedJob, Job, SweepRun, artefacts_of, command_of, open_sweep


def command(sweep: Sweep) -> str:
    """What the sweep's run is found by."""
    return command_of(list(_jobs(sweep).values()))


def open_run(sweep: Sweep) -> AbstractContextManager[SweepRun | None]:
    """The run of a sweep while it runs; None with tracking off."""
    first = sweep.first
    return open_sweep(
        first.tracking,
        name=f"{first.name} over {', '.join(sweep.swept)}" if sweep.swept else first.name,
        identity=sweep.identity,
        jobs=list(_jobs(sweep).values()),
        overrides=sweep.overrides,
        config=first.config(),
        parameters=parameters(sweep),
        note=f"{len(sweep.jobs)} jobs, running",
        made_from=lambda: artefacts_of(stages(sweep.targets()), Records(sweep).of),
    )


def finish(
    shown: SweepRun,
    sweep: Sweep,
    store: Store,
    folder: Path,
    ran: Collection[str],
    failed: Mapping[str, str],
    launched: Collection[int],
) -> None:
    """Show the results of a sweep and of its jobs.

    Args:
        shown: The sweep's run.
        sweep: Its jobs have their status.
        store: Where the artefacts are.
        folder: Of the sweep; figures are made there.
        ran: Labels of the stages that were executed.
        failed: Errors by label.
        launched: Numbers of the jobs that a worker ran to their end.
    """
    comparison = compare(sweep, store, folder / "compare")
    points = over_swept(comparison.rows, sweep.swept, _headline(sweep, store, comparison.rows))
    jobs = [
        EndedJob(job, ran, failed, number in launched, sweep.jobs[number].error)
        for number, job in _jobs(sweep).items()
    ]
    description = note(sweep, comparison, len(ran))
    shown.finish(comparison.rows, description, comparison.paths, points, jobs)


class Records:
    """Role and parameters of the stages of all jobs, for records of earlier versions, which lack them."""

    def __init__(self, sweep: Sweep):
        self._names = {label: jobs[0].experiment for label, jobs in sweep.stages_of_jobs().items()}

    def of(self, stage: Stage) -> Mapping[str, object]:
        """Those of one stage, as its first job names them."""
        first = self._names[stage.label]
        return Names(first).record(stage) if first else {}


def _jobs(sweep: Sweep) -> dict[int, Job]:
    """The jobs that can be composed, by number."""
    return {
        job.number: Job(job.experiment, title(job.swept) or job.experiment.name)
        for job in sweep.jobs
        if job.experiment
    }


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
