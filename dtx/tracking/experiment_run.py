"""Tracking of one experiment: the run of a job with those of its stages, or a shared stage of a sweep."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dtx.config.compose import Experiment
from dtx.errors import Interrupted
from dtx.running.names import Names, title
from dtx.running.outcome import StageOutcome
from dtx.running.plan import stages
from dtx.running.processes import marked
from dtx.running.signals import defer_signals
from dtx.running.tracker import StageTracker, Tracker
from dtx.stage import Stage
from dtx.store.store import current
from dtx.tracking.job_run import Job, show
from dtx.tracking.lineage import Lineage
from dtx.tracking.mirror import artefacts_of, make_up
from dtx.tracking.registry import register_models
from dtx.tracking.server import Server
from dtx.tracking.stage_run import StageRun


@contextmanager
def open_tracker(
    experiment: Experiment, parent: str | None = None, swept: Mapping[str, str] | None = None
) -> Iterator[Tracker]:
    """The run of a job; its status is finished, failed or killed when the block ends.

    Args:
        experiment: What is run.
        parent: Run of the sweep.
        swept: Swept fields, the name of the job's run in a sweep. None in a sweep: stages that jobs share,
            whose runs go directly under the sweep's.

    Raises:
        UserError: Tracking is on and the server cannot be reached; nothing has been run yet.
    """
    if not experiment.tracking.enabled:
        yield NoTracking(experiment)
        return
    with marked(current().root) as mark:
        tracker = ExperimentRun(experiment, parent, swept)
        status = "FAILED"
        try:
            with defer_signals():  # a signal between a run's start and its id would lose the run
                tracker.begin()
            yield tracker
            status = "FAILED" if tracker.any_failed else "FINISHED"
        except Interrupted:
            status = "KILLED"
            raise
        finally:
            if tracker.job and tracker.run_id:
                tracker.server.end(tracker.run_id, status)
            mark.stays = tracker.server.broken is not None


class NoTracking:
    """Tracking is off: nothing is shown."""

    def __init__(self, experiment: Experiment):
        self.overrides, self.names = experiment.overrides, Names(experiment)

    @property
    def reference(self) -> Mapping[str, str]:
        """Empty."""
        return {}

    @contextmanager
    def stage(self, stage: Stage, work: Path) -> Iterator[StageTracker]:
        """Show nothing."""
        yield self

    def committed(self, folder: Path, record: Mapping[str, Any], summary: str) -> None:
        """Show nothing."""

    def finish(self, outcomes: Sequence[StageOutcome]) -> None:
        """Show nothing."""

    def raise_if_broken(self, store: Path) -> None:
        """Nothing can break."""


class ExperimentRun:
    """The run of a job, and those of its stages under it.

    Attributes:
        job: None for stages that the jobs of a sweep share.
        run_id: The run that the stages' runs go under.
    """

    def __init__(self, experiment: Experiment, parent: str | None, swept: Mapping[str, str] | None):
        self.server = Server(experiment.tracking)
        self.experiment, self.overrides = experiment, experiment.overrides
        self.names = Names(experiment)
        shared = parent is not None and swept is None
        name = self.names.title if swept is None else title(swept) or experiment.name
        self.job = None if shared else Job(self.names, name, parent)
        self.single = parent is None
        self.any_failed = False
        self.run_id = parent if shared and parent else ""

    def begin(self) -> None:
        """Start the job's run; for a single one, mirror what MLflow lacks of its stages first."""
        if not self.job:
            return
        self.run_id = self.job.begin(self.server)
        if not self.single:  # the sweep's process does the rest
            return
        config = self.experiment.config()
        self.server.safely(lambda: self.server.log_config(self.run_id, config))
        there = artefacts_of(stages(self.experiment.targets.values()), self.names.record)
        make_up(self.server, there, self.run_id)

    def raise_if_broken(self, store: Path) -> None:
        """See :meth:`Server.raise_if_broken`."""
        self.server.raise_if_broken(store)

    @contextmanager
    def stage(self, stage: Stage, work: Path) -> Iterator[StageTracker]:
        """A run for one executed stage, under the job's or the sweep's."""
        shown, status = None, "FAILED"
        try:
            with defer_signals():
                named = self.names.record(stage)
                shown = StageRun(self.server, self.run_id, stage, work, named, self.overrides)
            yield shown
            status = "FINISHED"
        except Interrupted:
            status = "KILLED"
            raise
        except Exception as error:
            if shown:
                shown.failed(str(error) or type(error).__name__, traceback.format_exc())
            raise
        finally:
            if shown:
                shown.close(status)

    def finish(self, outcomes: Sequence[StageOutcome]) -> None:
        """Show what all stages found in the job's run, and register models if that is wanted."""
        self.any_failed = any(o.status == "failed" for o in outcomes)
        if not (job := self.job):
            return
        error = next((o.error for o in outcomes if o.status == "failed"), "")
        lineage = Lineage(self.server)
        self.server.safely(lambda: show(self.server, self.run_id, job, outcomes, lineage, error))
        if self.experiment.tracking.register:
            self.server.safely(lambda: register_models(self.server, job))
