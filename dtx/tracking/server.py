"""What is sent to MLflow: runs, their numbers and files; lost servers, runs of killed processes."""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from omegaconf import OmegaConf

from dtx.config.compose import TrackingConfig
from dtx.errors import UserError
from dtx.pages import standalone
from dtx.progress import console
from dtx.running.processes import alive, process_tags
from dtx.running.signals import defer_signals
from dtx.text import discreet
from dtx.tracking.connection import connected, short
from dtx.tracking.database import WAYS_ON
from dtx.tracking.moved import FOLDER
from dtx.tracking.uri import database_of, tracking_uri

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import Experiment as MlflowExperiment
    from mlflow.entities import Run

T = TypeVar("T")
_PARAM_CHARACTERS = 6000  # MLflow's limit
_NO_NAME = re.compile(r"[^\w./ -]")
"""What MLflow refuses in the name of a parameter or a metric."""


Point = tuple[str, float, int]
"""Name, value and step."""


class Server:
    """A client with its experiment. Once a call fails the work goes on without tracking.

    Raises:
        UserError: The server cannot be reached; nothing has been run yet.
    """

    def __init__(self, config: TrackingConfig):
        self.uri = tracking_uri(config.uri)
        self.broken: Exception | None = None
        self.client, self.experiment_id = _connect(self.uri, config.experiment)

    def safely(self, call: Callable[[], T]) -> T | None:
        """Call the server, or do nothing once a call has failed; see raise_if_broken."""
        if self.broken:
            return None
        try:
            with defer_signals():
                return call()
        except Exception as error:  # of the server, its database or its disk
            self.broken = error
            console.print(
                f"[yellow]MLflow at {self.uri} failed ({short(error)}); the work goes on without it[/]"
            )
            return None

    def raise_if_broken(self, store: Path) -> None:
        """Raise a UserError if a call to MLflow has failed; all artefacts are in the store by then."""
        if self.broken:
            raise UserError(
                f"MLflow at {self.uri} was lost on the way ({short(self.broken)}); all "
                f"results are complete in {store}, curves and figures included, but not in MLflow. "
                "Mend that: the next `dtx run`, or `dtx track`, adds what is missing there"
            )

    def start(
        self, name: str, tags: dict[str, str], parent: str | None = None, at: int | None = None
    ) -> str:
        """Start a run of this process, now or at a time (ms), and give its id.

        Raises:
            UserError: MLflow cannot make it.
        """
        own = {
            "mlflow.source.type": "LOCAL",
            "mlflow.user": os.environ.get("USER", "dtx"),
            **process_tags(),
            **({"mlflow.parentRunId": parent} if parent else {}),
        }
        tags = {key: discreet(value) for key, value in {**own, **tags}.items()}
        try:
            run = self.client.create_run(self.experiment_id, at, tags, discreet(name))
        except Exception as error:  # of the server, its database or its disk
            raise UserError(
                f"MLflow at {self.uri} failed ({short(error)}); mend that, {WAYS_ON}"
            ) from error
        return run.info.run_id

    def end(self, run_id: str, status: str) -> None:
        """FINISHED, FAILED or KILLED."""
        self.safely(lambda: self.client.set_terminated(run_id, status))

    def log_params(
        self, run_id: str, values: dict[str, str], known: Mapping[str, str] | None = None
    ) -> None:
        """Any number of parameters, but those that the run has (``known``)."""
        from mlflow.entities import Param

        named: dict[str, str] = {}
        for name, value in values.items():
            shown = _NO_NAME.sub("_", name)  # a config's mapping may have any key: "key (2,6)"
            while shown in named:
                shown += "_"
            named[shown] = discreet(value)[:_PARAM_CHARACTERS]
        params = [Param(k, v) for k, v in named.items() if k not in (known or {})]
        self.client.log_batch(run_id, params=params)

    def log_metrics(
        self,
        run_id: str,
        points: Sequence[Point],
        tags: Mapping[str, str] | None = None,
        at: int | None = None,
    ) -> None:
        """Any number of points, of now or a time (ms), and tags in the same call."""
        from mlflow.entities import Metric, RunTag

        now = int(time.time() * 1000) if at is None else at
        metrics = [Metric(metric_name(k), value, now, step) for k, value, step in points]
        run_tags = [RunTag(name, discreet(value)) for name, value in (tags or {}).items()]
        self.client.log_batch(run_id, metrics=metrics, tags=run_tags)

    def log_text(self, run_id: str, name: str, text: str) -> None:
        """A file of text."""
        self.client.log_text(run_id, discreet(text), name)

    def log_config(self, run_id: str, config: Mapping[str, Any]) -> None:
        """What was composed, as ``config.yaml``."""
        self.log_text(run_id, "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(config))))

    def show(
        self,
        run_id: str,
        points: Sequence[Point],
        note: str,
        files: Mapping[str, Path],
        tables: Mapping[str, pd.DataFrame],
        tags: Mapping[str, str] | None = None,
        at: int | None = None,
    ) -> None:
        """Log a run's results in two calls: each takes 10 ms here and as much on the server.

        Args:
            run_id: The run.
            points: Numbers.
            note: The run's description in Markdown.
            files: Files by their place among the run's artefacts.
            tables: Tables by place (``tables/returns.json``), which the UI shows page by page.
            tags: Further tags.
            at: When the numbers were measured (ms); None: now.
        """
        # The tag tells the UI which files are tables; MLflow's own log_table takes five calls for each.
        shown = json.dumps([{"path": name, "type": "table"} for name in tables])
        own = {"mlflow.note.content": note, "mlflow.loggedArtifacts": shown}
        self.log_metrics(run_id, points, {**own, **(tags or {})}, at)
        with tempfile.TemporaryDirectory(prefix="dtx-") as folder:
            for name in (*files, *tables):
                Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
            for name, path in files.items():
                if text := standalone(path):
                    Path(folder, name).write_text(text, encoding="utf-8")
                else:
                    Path(folder, name).symlink_to(path.absolute())
            for name, frame in tables.items():
                table = frame.to_json(orient="split", index=False, date_format="iso") or ""
                # JSON writes a slash as \\/, after which no URL is recognised.
                Path(folder, name).write_text(discreet(table.replace("\\/", "/")))
            self.client.log_artifacts(run_id, folder)

    def orphans(self) -> list[Run]:
        """The runs that ended processes of this machine left RUNNING."""
        own = process_tags()
        query = f"attributes.status = 'RUNNING' and tags.`dtx.host` = '{own['dtx.host']}'"
        left = []
        for run in self.client.search_runs([self.experiment_id], query, max_results=1000):
            process = run.data.tags.get("dtx.process")
            if process and process != own["dtx.process"] and not alive(process):
                left.append(run)
        return left


def files_in(folder: Path, name: str) -> dict[str, Path]:
    """The files of an artefact's subfolder by their place: ``figures/returns.png``."""
    return {f"{name}/{path.name}": path for path in sorted((folder / name).glob("*"))}


def metric_name(name: str) -> str:
    """How MLflow shows a metric: it refuses some characters."""
    return _NO_NAME.sub("_", name)


def flat(values: Any, prefix: str = "") -> dict[str, str]:
    """Nested values as ``group.field`` to text."""
    if isinstance(values, dict):
        return {
            k: v
            for name, inner in values.items()
            for k, v in flat(inner, f"{prefix}{name}.").items()
        }
    return {prefix.rstrip("."): str(values)}


def _connect(uri: str, name: str) -> tuple[MlflowClient, str]:
    """A client and the experiment's id."""
    database = database_of(uri)
    with connected(uri, database) as client:
        artifacts = (database.parent / FOLDER).as_uri() if database else None
        return client, _experiment_id(client, name, artifacts)


def _experiment_id(client: MlflowClient, name: str, artifacts: str | None) -> str:
    from mlflow import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment:
        if experiment.lifecycle_stage == "deleted":
            raise UserError(
                f"MLflow's experiment {name!r} was deleted there, and its name stays taken: "
                f"`mlflow experiments restore -x {experiment.experiment_id}` brings it back, "
                "tracking.experiment=NAME takes another. Nothing was run, nothing is lost"
            )
        _check_artifacts(experiment)
        return experiment.experiment_id
    try:
        # The UI then opens on training runs, not on conversations of language models.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return client.create_experiment(name, artifact_location=artifacts, tags=tags)
    except MlflowException:  # another process made it meanwhile: a server has no lock of ours
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            raise
        return experiment.experiment_id


def _check_artifacts(experiment: MlflowExperiment) -> None:
    """Check that files of runs can be written, if the experiment keeps them in a local folder.

    That of another program, or of another machine: dtx's own folder follows the database (see moved.py).
    """
    from mlflow.utils.file_utils import local_file_uri_to_path

    if urlsplit(experiment.artifact_location).scheme not in ("", "file"):
        return
    folder = Path(local_file_uri_to_path(experiment.artifact_location))
    there = folder if folder.exists() else folder.parent  # MLflow makes it for the first file
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return
    raise UserError(
        f"MLflow's experiment {experiment.name!r} keeps its files in {folder}, which "
        f"{'cannot be written' if there.exists() else 'is not here'}: make it a folder that can be written, "
        "take another experiment with tracking.experiment=NAME, or move the database aside, after which "
        "`dtx track` fills a new one from the store. Nothing was run, nothing is lost"
    )
