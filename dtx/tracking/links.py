"""Addresses of MLflow's pages: where a reader sees a run, and by which command."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from dtx.config.compose import TrackingConfig
from dtx.errors import UserError
from dtx.tracking.commands import runs_of
from dtx.tracking.uri import database_of, default_uri, tracking_uri

PORT = 5000
"""Of ``dtx ui``, unless ``--port`` names another."""

_TRAINING = "workflowType=machine_learning"  # else MLflow shows its pages for language models


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


def review(config: TrackingConfig, command: Callable[[], str]) -> str:
    """Where to look at the runs of a command, in one line.

    Args:
        config: Of an experiment, or of a sweep's first; tracking is on.
        command: Gives what the run is found by (:mod:`dtx.tracking.commands`).
    """
    uri = tracking_uri(config.uri)
    shown = []
    with contextlib.suppress(UserError):  # a link is not worth an error
        shown = [run for run in runs_of(uri, config.experiment, command()) if not run.deleted]
    address = link(uri, shown[0].experiment_id, shown[0].run_id) if shown else _address(uri)
    return f"review: {address if database_of(uri) is None else f'{_command(uri)}, then {address}'}"
