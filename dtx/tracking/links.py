"""Addresses of MLflow's pages: where a reader sees a run, and by which command."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from dtx.config.compose import Experiment
from dtx.errors import UserError
from dtx.stage import Stage
from dtx.text import near
from dtx.tracking.connection import client_of, short
from dtx.tracking.database import experiment_and_parent
from dtx.tracking.lacking import run_of
from dtx.tracking.mirror import artefacts_of
from dtx.tracking.uri import database_of, default_uri, tracking_uri

PORT = 5000
"""Of ``dtx ui``, unless ``--port`` names another."""

_TRAINING = "workflowType=machine_learning"  # else MLflow shows its pages for language models
_DEPTH = 8  # of nested runs


def link(uri: str, experiment_id: str, run_id: str | None = None) -> str:
    """The address of a run, or of an experiment's list of runs.

    Args:
        uri: Of MLflow. Of a server, the page is the server's own; of a database, that of ``dtx ui``.
        experiment_id: The run's experiment.
        run_id: The run; None: the list of all.
    """
    return f"{_address(uri)}/{page(experiment_id, run_id)}"


def page(experiment_id: str, run_id: str | None = None) -> str:
    """The same without the server's address."""
    runs = f"runs/{run_id}" if run_id else "runs"
    return f"#/experiments/{experiment_id}/{runs}?{_TRAINING}"


def _address(uri: str) -> str:
    """A server's address without its user and password; of a database, that of ``dtx ui``."""
    if not uri.startswith(("http://", "https://")):
        return f"http://127.0.0.1:{PORT}"
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def _command(uri: str) -> str:
    """The command that opens the UI on a database, from the working folder."""
    return "dtx ui" if uri == default_uri(Path("store")) else f"dtx ui --uri {shlex.quote(uri)}"


def review(what: Experiment, stages: Sequence[Stage]) -> str:
    """Where to see the results of an experiment or a sweep, in one line.

    Args:
        what: The experiment, or one of the sweep's.
        stages: Of it. The newest one's run tells which run is shown: its outermost parent.
    """
    if not what.tracking.enabled:
        return f"results: {near(what.store.path)}"
    uri = tracking_uri(what.tracking.uri)
    shown = [artefact for artefact in artefacts_of(stages) if run_of(artefact)]
    newest = max(shown, key=lambda artefact: artefact.finished, default=None)
    place = _outermost(uri, run_of(newest)) if newest else None
    address = link(uri, *place) if place else _address(uri)
    return f"review: {address if database_of(uri) is None else f'{_command(uri)}, then {address}'}"


def _outermost(uri: str, run_id: str) -> tuple[str, str] | None:
    """The experiment and id of the outermost parent of a run; None: MLflow does not tell."""
    database, place = database_of(uri), None
    with contextlib.suppress(UserError):  # a link is not worth an error
        for _ in range(_DEPTH):
            found = (
                _run(uri, run_id) if database is None else experiment_and_parent(database, run_id)
            )
            if not found:
                break
            place, run_id = (found[0], run_id), found[1]
    return place


def _run(uri: str, run_id: str) -> tuple[str, str] | None:
    """The same as of a database, asked of a server."""
    if not run_id:
        return None
    try:
        run = client_of(uri).get_run(run_id)
    except Exception as error:  # of the server or the network
        raise UserError(short(error)) from error
    return run.info.experiment_id, run.data.tags.get("mlflow.parentRunId", "")
