"""The MLflow run of an experiment, or the stages' runs that one job adds under its sweep's run."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dtx.analysis.core.result import Result
from dtx.config.compose import Experiment
from dtx.errors import Interrupted
from dtx.report import RESULT, read_metrics
from dtx.running.outcome import StageOutcome
from dtx.running.plan import stages
from dtx.running.processes import marked
from dtx.running.signals import defer_signals
from dtx.running.tracker import StageTracker, Tracker
from dtx.stage import Stage
from dtx.store.store import current
from dtx.tracking.mirror import artefacts_of, make_up
from dtx.tracking.server import Server, dataset_input, files_in
from dtx.tracking.stage_run import StageRun


@contextmanager
def open_tracker(
    experiment: Experiment, parent: str | None = None, swept: Mapping[str, str] | None = None
) -> Iterator[Tracker]:
    """The experiment's run; its status is finished, failed or killed when the block ends.

    Args:
        experiment: What is run.
        parent: Run of the sweep; the stages' runs go under it and the experiment gets none of its own.
        swept: Swept fields, shown on the stages' runs.

    Raises:
        UserError: Tracking is on and the server cannot be reached; nothing has been run yet.
    """
    if not experiment.tracking.enabled:
        yield NoTracking(experiment.overrides)
        return
    with marked(current().root) as mark:
        tracker = ExperimentRun(experiment, parent, swept or {})
        status = "FAILED"
        try:
            with defer_signals():  # a signal between a run's start and its id would lose the run
                tracker.begin(experiment)
            yield tracker
            status = "FAILED" if tracker.any_failed else "FINISHED"
        except Interrupted:
            status = "KILLED"
            raise
        finally:
            if tracker.run_id and not parent:
                tracker.server.end(tracker.run_id, status)
            mark.stays = tracker.server.broken is not None


class NoTracking:
    """Tracking is off: nothing is shown."""

    def __init__(self, overrides: tuple[str, ...]):
        self.overrides = overrides

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
    """The experiment's MLflow run; opens the stages' runs under it."""

    def __init__(self, experiment: Experiment, parent: str | None, swept: Mapping[str, str]):
        self.server = Server(experiment.tracking)
        self.overrides, self.parent, self.swept = experiment.overrides, parent, swept
        self.any_failed = False
        self.run_id = parent or ""

    def begin(self, experiment: Experiment) -> None:
        """Start the experiment's run, unless the stages go under a sweep's."""
        if self.parent:
            return
        tags = {
            "mlflow.source.name": "dtx run",
            "dtx.targets": ", ".join(experiment.targets),
            "dtx.overrides": " ".join(experiment.overrides)[:5000],
        }
        self.run_id = self.server.start(experiment.name, tags)
        config = experiment.config()
        safely = self.server.safely
        safely(lambda: self.server.log_config(self.run_id, config))
        safely(lambda: self.server.log_params(self.run_id, experiment.parameters()))
        make_up(self.server, artefacts_of(stages(experiment.targets.values())), self.run_id)

    def raise_if_broken(self, store: Path) -> None:
        """See :meth:`Server.raise_if_broken`."""
        self.server.raise_if_broken(store)

    @contextmanager
    def stage(self, stage: Stage, work: Path) -> Iterator[StageTracker]:
        """A run for one executed stage, nested under the experiment's or the sweep's."""
        shown, status = None, "FAILED"
        try:
            with defer_signals():
                shown = StageRun(self.server, self.run_id, stage, work, self.swept, self.overrides)
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
        """Log headline numbers, figures, a table of stages and a description to the experiment's run."""
        self.any_failed = any(o.status == "failed" for o in outcomes)
        if not self.parent:
            self.server.safely(lambda: self._finish(outcomes))

    def _finish(self, outcomes: Sequence[StageOutcome]) -> None:
        import pandas as pd

        store, server = current(), self.server
        headline: dict[str, float] = {}
        lines, rows = [], []
        for outcome in outcomes:
            stage = outcome.stage
            there = store.where(stage) == "local"
            summary = stage.summary() if there else outcome.error
            if there or outcome.error:
                lines.append(f"- **{stage.name}** ({outcome.status}): {summary}")
                seconds = round(outcome.seconds, 1)
                established = _established(stage.path) if there else None
                rows.append([stage.name, stage.key, outcome.status, seconds, established, summary])
            if there:
                # The first stage of a name wins: what is analysed comes before its controls.
                numbers = read_metrics(stage.path).items()
                headline = {k: v for k, v in numbers if v is not None} | headline
        columns = ["stage", "key", "status", "seconds", "established", "result"]
        frame = pd.DataFrame(rows, columns=columns)
        read = {s.label for o in outcomes for s in o.stage.inputs().values()}
        local = [o for o in outcomes if store.where(o.stage) == "local"]
        files: dict[str, Path] = {}
        for outcome in local:
            if outcome.stage.label not in read:
                files |= files_in(outcome.stage.path, "figures")
        points = [(k, v, 0) for k, v in headline.items()]
        server.show(self.run_id, points, "\n".join(lines), files, {"stages.json": frame})
        inputs = [dataset_input(o.stage, o.status) for o in local]
        server.client.log_inputs(self.run_id, datasets=inputs)


def _established(folder: Path) -> bool | None:
    """Whether an analysis' finding is established; None for a stage that is no analysis."""
    return Result.read(folder).established if (folder / RESULT).is_file() else None
