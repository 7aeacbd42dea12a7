"""The MLflow run of a command: one, however often the command is given until it is finished."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dtx.running.processes import alive, process_tags
from dtx.text import discreet
from dtx.tracking import database as sqlite
from dtx.tracking.connection import client_of
from dtx.tracking.database import KnownRun
from dtx.tracking.lacking import all_of, unreachable
from dtx.tracking.server import Server
from dtx.tracking.uri import database_of

if TYPE_CHECKING:
    from mlflow.entities import Run

COMMAND = "dtx.command"
"""Tag of the runs of jobs and sweeps: equal for equal commands."""
_PARENT = "mlflow.parentRunId"


def begin(
    server: Server,
    name: str,
    tags: Mapping[str, str],
    command: str,
    parent: str | None = None,
    *,
    look: bool = True,
    earlier: Run | None = None,
) -> tuple[str, Mapping[str, str]]:
    """Start the run of a command, or go on with the one that it left.

    A run that a living process works on is left alone: the same command at the same time gets its own.

    Args:
        server: Of MLflow.
        name: Of the run.
        tags: Of the run.
        command: What it is found by.
        parent: Run of the sweep.
        look: Whether to look for an earlier run; a sweep knows those of all its jobs.
        earlier: The one that is known.

    Returns:
        The run's id, and the parameters that it has.

    Raises:
        UserError: MLflow cannot make it.
    """
    tags = {**tags, COMMAND: command}
    if look:
        earlier = server.safely(lambda: _earlier(server, command, parent))
    if earlier is None:
        return server.start(name, tags, parent), {}
    run_id = earlier.info.run_id

    def go_on() -> None:
        server.log_metrics(run_id, [], {**tags, **process_tags()})
        server.client.update_run(run_id, "RUNNING", discreet(name))
        if "dtx.error" in earlier.data.tags:
            server.client.delete_tag(run_id, "dtx.error")

    server.safely(go_on)
    return run_id, earlier.data.params


def _earlier(server: Server, command: str, parent: str | None) -> Run | None:
    within = f" and tags.`{_PARENT}` = '{parent}'" if parent else ""
    found = server.client.search_runs(
        [server.experiment_id], f"tags.`{COMMAND}` = '{command}'{within}", max_results=10
    )
    # A sweep launches a job again only after the worker that had it was killed.
    return next((run for run in found if parent or not _is_worked_on(run)), None)


def _is_worked_on(run: Run) -> bool:
    """Whether a process works on a run; of another machine's process that is not known."""
    own, tags = process_tags(), run.data.tags
    if run.info.status != "RUNNING" or tags.get("dtx.process") == own["dtx.process"]:
        return False
    return tags.get("dtx.host") != own["dtx.host"] or alive(tags.get("dtx.process", "0:"))


def is_shown(uri: str, experiment: str, command: str) -> bool:
    """Whether a finished run shows what a command found, or one that somebody deleted.

    Raises:
        UserError: MLflow cannot be asked.
    """
    found = runs_of(uri, experiment, command)
    return any(run.deleted or run.status == "FINISHED" for run in found)


def runs_of(uri: str, experiment: str, command: str) -> list[KnownRun]:
    """The runs of a command, newest first.

    Raises:
        UserError: MLflow cannot be asked.
    """
    if (database := database_of(uri)) is not None:
        unmade = sqlite.unmade(database)
        return [] if unmade else sqlite.runs_tagged(database, COMMAND, command)
    from mlflow.entities import ViewType

    query = f"tags.`{COMMAND}` = '{command}'"
    try:
        client = client_of(uri)
        place = client.get_experiment_by_name(experiment)
        if place is None:
            return []
        found = client.search_runs([place.experiment_id], query, ViewType.ALL, 10)
    except Exception as error:  # of the server or the network
        raise unreachable(uri, error) from error
    return [
        KnownRun(i.run_id, "", i.status, i.lifecycle_stage == "deleted", i.experiment_id)
        for i in (run.info for run in found)
    ]


def children(server: Server, parent: str) -> dict[str, Run]:
    """The runs of jobs under a sweep's run, by their command."""
    query = f"tags.`{_PARENT}` = '{parent}' and tags.`{COMMAND}` LIKE '%'"
    return {
        run.data.tags[COMMAND]: run
        for run in all_of(
            lambda token: server.client.search_runs(
                [server.experiment_id], query, max_results=1000, page_token=token
            )
        )
    }
