"""The MLflow run of a sweep: a table of its jobs, failures, and the figures that compare them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dtx.config.compose import TrackingConfig
from dtx.errors import Interrupted
from dtx.running.processes import marked
from dtx.running.signals import defer_signals
from dtx.stage import Stage
from dtx.store.store import current
from dtx.tracking.mirror import artefacts_of, make_up
from dtx.tracking.server import Server, dataset_input

_BATCH_INPUTS = 100  # links sent at once


class SweepRun:
    """The MLflow run of a sweep, while the sweep runs.

    Args:
        server: Of MLflow.

    Attributes:
        run_id: The run, parent of the stages' runs; empty before it is started.
    """

    def __init__(self, server: Server):
        self.server, self.run_id = server, ""
        self.any_failed = False

    def finish(
        self,
        rows: Sequence[Mapping[str, Any]],
        note: str,
        figures: Sequence[Path],
        stages: Sequence[tuple[Stage, str]],
    ) -> None:
        """Show the jobs (one row each), a description in Markdown and figures; link the stages.

        Args:
            rows: Swept fields, ``status`` and numbers of each job.
            note: The description.
            figures: PNG files.
            stages: The stages of the jobs, with ``ran`` or ``reused``; linked by digest, not copied.
        """

        def send() -> None:
            import pandas as pd

            frame = pd.DataFrame(list(rows))
            counts = frame["status"].value_counts()
            points = [(f"jobs/{status}", float(n), 0) for status, n in counts.items()]
            files = {f"compare/{path.name}": path for path in figures}
            self.server.show(self.run_id, points, note, files, {"jobs.json": frame})
            inputs = [dataset_input(stage, status) for stage, status in stages]
            for i in range(0, len(inputs), _BATCH_INPUTS):
                some = inputs[i : i + _BATCH_INPUTS]
                self.server.client.log_inputs(self.run_id, datasets=some)

        self.any_failed = any(row["status"] == "failed" for row in rows)
        self.server.safely(send)


@contextmanager
def open_sweep(
    tracking: TrackingConfig,
    *,
    name: str,
    identity: str,
    overrides: Sequence[str],
    config: Mapping[str, Any],
    parameters: Mapping[str, str],
    note: str,
    stages: Sequence[Stage],
) -> Iterator[SweepRun | None]:
    """The run of a sweep; None with tracking off.

    Args:
        tracking: The server and its experiment.
        name: Of the run.
        identity: Equal for sweeps with the same targets; :func:`log_to_sweep` finds the run by it.
        overrides: From the command line.
        config: Of the first job, resolved.
        parameters: Of the run.
        note: The description until there are results.
        stages: Of all jobs, inputs first.
    """
    if not tracking.enabled:
        yield None
        return
    server = Server(tracking)
    tags = {
        "mlflow.source.name": "dtx run -m",
        "dtx.sweep": identity,
        "dtx.overrides": " ".join(overrides)[:5000],
        "mlflow.note.content": note,
    }
    with marked(current().root) as mark:
        run, status = SweepRun(server), "FAILED"
        try:
            with defer_signals():  # a signal between a run's start and its id would lose the run
                run.run_id = server.start(name, tags)
            server.safely(lambda: server.log_config(run.run_id, config))
            server.safely(lambda: server.log_params(run.run_id, dict(parameters)))
            make_up(server, artefacts_of(stages), run.run_id)
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
