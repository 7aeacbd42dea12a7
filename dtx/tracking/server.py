"""The connection to MLflow: new databases, lost servers, runs of killed processes."""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from omegaconf import OmegaConf

from dtx.config.compose import TrackingConfig
from dtx.errors import UserError
from dtx.files import read_json
from dtx.progress import console
from dtx.run.processes import alive, process_tags
from dtx.run.signals import defer_signals
from dtx.stage import Stage
from dtx.store.locks import held
from dtx.store.store import DONE, current
from dtx.text import discreet
from dtx.tracking.uri import absolute, database_of, default_uri, uri_of

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

T = TypeVar("T")
_PARAM_CHARACTERS = 6000  # MLflow's limit
_NO_NAME = re.compile(r"[^\w./ -]")
"""What MLflow refuses in a parameter's name."""


Point = tuple[str, float, int]
"""Name, value and step."""


class Server:
    """A client with its experiment. Once a call fails the work goes on without tracking.

    Raises:
        UserError: The server cannot be reached; nothing has been run yet.
    """

    def __init__(self, config: TrackingConfig):
        self.uri = absolute(config.uri) if config.uri else default_uri()
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
                f"[yellow]MLflow at {self.uri} failed ({_short(error)}); the work goes on without it[/]"
            )
            return None

    def raise_if_broken(self, store: Path) -> None:
        """Raise a UserError if a call to MLflow has failed; all artefacts are in the store by then."""
        if self.broken:
            raise UserError(
                f"MLflow at {self.uri} was lost on the way ({_short(self.broken)}); all "
                f"results are complete in {store}, curves and figures included, but not in MLflow. "
                "Mend the server for the next run"
            )

    def start(self, name: str, tags: dict[str, str], parent: str | None = None) -> str:
        """Start a run of this process and give its id."""
        own = {
            "mlflow.source.type": "LOCAL",
            "mlflow.user": os.environ.get("USER", "dtx"),
            **process_tags(),
            **({"mlflow.parentRunId": parent} if parent else {}),
        }
        tags = {key: discreet(value) for key, value in {**own, **tags}.items()}
        run = self.client.create_run(self.experiment_id, run_name=discreet(name), tags=tags)
        return run.info.run_id

    def end(self, run_id: str, status: str) -> None:
        """FINISHED, FAILED or KILLED."""
        self.safely(lambda: self.client.set_terminated(run_id, status))

    def log_params(self, run_id: str, values: dict[str, str]) -> None:
        """Any number of parameters."""
        from mlflow.entities import Param

        named: dict[str, str] = {}
        for name, value in values.items():
            shown = _NO_NAME.sub("_", name)  # a config's mapping may have any key: "key (2,6)"
            while shown in named:
                shown += "_"
            named[shown] = discreet(value)[:_PARAM_CHARACTERS]
        self.client.log_batch(run_id, params=[Param(k, v) for k, v in named.items()])

    def log_metrics(
        self, run_id: str, points: Sequence[Point], tags: Mapping[str, str] | None = None
    ) -> None:
        """Any number of points, and tags in the same call."""
        from mlflow.entities import Metric, RunTag

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value, step in points]
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
    ) -> None:
        """Log a run's results in two calls: each takes 10 ms here and as much on the server.

        Args:
            run_id: The run.
            points: Numbers.
            note: The run's description in Markdown.
            files: Files by their place among the run's artefacts.
            tables: Tables by place (``tables/returns.json``), which the UI shows page by page.
            tags: Further tags.
        """
        # The tag tells the UI which files are tables; MLflow's own log_table takes five calls for each.
        shown = json.dumps([{"path": name, "type": "table"} for name in tables])
        own = {"mlflow.note.content": note, "mlflow.loggedArtifacts": shown}
        self.log_metrics(run_id, points, {**own, **(tags or {})})
        with tempfile.TemporaryDirectory(prefix="dtx-") as folder:
            for name in (*files, *tables):
                Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
            for name, path in files.items():
                Path(folder, name).symlink_to(path.absolute())
            for name, frame in tables.items():
                table = frame.to_json(orient="split", index=False, date_format="iso") or ""
                # JSON writes a slash as \\/, after which no URL is recognised.
                Path(folder, name).write_text(discreet(table.replace("\\/", "/")))
            self.client.log_artifacts(run_id, folder)

    def reconcile(self, settle: Callable[[Run, Path], None]) -> None:
        """Settle the runs that a SIGKILL on this machine left RUNNING.

        A run whose artefact was committed is completed (by ``settle(run, folder)``); any other is KILLED.
        """
        own = process_tags()
        query = f"attributes.status = 'RUNNING' and tags.`dtx.host` = '{own['dtx.host']}'"
        for run in self.client.search_runs([self.experiment_id], query, max_results=1000):
            process = run.data.tags.get("dtx.process")
            if not process or process == own["dtx.process"] or alive(process):
                continue
            folder = _committed(run)
            if folder:
                settle(run, folder)
            self.end(run.info.run_id, "FINISHED" if folder else "KILLED")


def _committed(run: Run) -> Path | None:
    """The folder of the artefact that a run made, if it was committed before the run was killed."""
    tags = run.data.tags
    folder = current().root / f"{tags.get('dtx.stage')}-{tags.get('dtx.key')}"
    try:
        record = read_json(folder / DONE)
    except (OSError, ValueError):
        return None
    return folder if record.get("mlflow", {}).get("run_id") == run.info.run_id else None


def dataset_input(stage: Stage, context: str) -> DatasetInput:
    """An artefact as MLflow's dataset, its key as digest: what lineage is searched by."""
    return _dataset_input(stage.name, stage.key, current().folder(stage), context)


def _dataset_input(name: str, key: str, folder: Path, context: str) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(name, key, "local", json.dumps({"uri": folder.as_uri()}))
    return DatasetInput(dataset, [InputTag("mlflow.data.context", context)])


def produced(name: str, key: str, folder: Path) -> DatasetInput:
    """The artefact that a run made."""
    return _dataset_input(name, key, folder, "produced")


def files_in(folder: Path, name: str) -> dict[str, Path]:
    """The files of an artefact's subfolder by their place: ``figures/returns.png``."""
    return {f"{name}/{path.name}": path for path in sorted((folder / name).glob("*"))}


def flat(values: Any, prefix: str = "") -> dict[str, str]:
    """Nested values as ``group.field`` to text."""
    if isinstance(values, dict) and values:
        return {
            k: v
            for name, inner in values.items()
            for k, v in flat(inner, f"{prefix}{name}.").items()
        }
    return {prefix.rstrip("."): str(values)}


def _connect(uri: str, name: str) -> tuple[MlflowClient, str]:
    """A client and the experiment's id; a fresh database is made under a lock."""
    remote = uri.startswith(("http://", "https://"))
    if remote:  # fail in seconds, not after MLflow's default of minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_ENABLE_ASYNC_LOGGING", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow would report its use
    # Two lines on standard output, and a call, for every run that ends on a server.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    database = database_of(uri)
    try:
        from mlflow import MlflowClient

        for logger in ("mlflow", "alembic"):  # importing mlflow makes them verbose
            logging.getLogger(logger).setLevel(logging.WARNING)
        if database is None:
            client = MlflowClient(uri, registry_uri=uri)
            return client, _experiment_id(client, name, None)
        database.parent.mkdir(parents=True, exist_ok=True)
        with held(database.parent, database.name):  # a process that waits prints for whom
            if not database.exists():
                _make_database(database)
            client = MlflowClient(uri, registry_uri=uri)
            return client, _experiment_id(client, name, (database.parent / "mlartifacts").as_uri())
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"cannot reach MLflow at {uri}: {_short(error)}; start it, name another with tracking.uri=URI, "
            "or run with tracking.enabled=false. Nothing was run, nothing is lost"
        ) from error


def _make_database(database: Path) -> None:
    """Make MLflow's tables under another name and rename: a kill leaves a whole database or none.

    The hundred migrations wait for the disk once, at the end, instead of each: 1 s instead of 10.
    """
    from mlflow import MlflowClient
    from sqlalchemy import Engine, event

    def hurry(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = MEMORY")  # no file that a kill could leave behind

    console.print("[dim]making the MLflow database (seconds, once)[/]")
    partial = database.with_name(database.name + ".partial")
    partial.unlink(missing_ok=True)
    event.listen(Engine, "connect", hurry)
    try:
        MlflowClient(uri_of(partial)).search_experiments(max_results=1)
    finally:
        event.remove(Engine, "connect", hurry)
    with partial.open("rb") as handle:
        os.fsync(handle.fileno())
    partial.replace(database)


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


def _short(error: BaseException) -> str:
    """The innermost cause in one line: ``Connection refused`` rather than a stack of wrappers."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
