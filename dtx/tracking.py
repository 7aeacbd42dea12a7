"""Mirror runs to MLflow. The only file that imports it.

One MLflow run for the experiment and, nested under it, one for each stage that is executed; stages found
in the store are linked, not copied. A thread follows a stage's ``curves.jsonl`` and sends points in
batches. Every artefact is a dataset input with its key as digest, with context ``produced`` in the run
that made it and the field's name in the runs that read it, so a search by digest gives the lineage.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from dtx.config import Experiment
from dtx.errors import Interrupted, UserError
from dtx.processes import alive, process_tags
from dtx.progress import console
from dtx.report import CURVES, TIMING, read_headline
from dtx.stage import Stage
from dtx.store import current

if TYPE_CHECKING:
    from dtx.runner import Outcome

_EVERY_SECONDS = 3.0
_TABLE_ROWS = 2000  # MLflow's table viewer loads a table whole


def default_uri() -> str:
    """MLFLOW_TRACKING_URI, else a database beside the store; always absolute."""
    return (
        os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{current().root.parent / 'mlflow.db'}"
    )


@contextmanager
def open_tracker(experiment: Experiment, stages: Sequence[Stage]) -> Iterator[Tracker | Silent]:
    """The experiment's run: finished, failed or killed as the block ends.

    Raises:
        UserError: Tracking is on and the server cannot be reached; nothing has been run yet.
    """
    if not experiment.tracking.enabled:
        yield Silent()
        return
    tracker = Tracker(experiment, stages)
    status = "FAILED"
    try:
        yield tracker
        status = "FINISHED"
    except Interrupted:
        status = "KILLED"
        raise
    finally:
        tracker.safely(lambda: tracker.client.set_terminated(tracker.run_id, status))


class Silent:
    """Tracking is off."""

    reference: dict[str, str] = {}
    model_id: str | None = None

    @contextmanager
    def stage(self, stage: Stage, work: Path) -> Iterator[Silent]:
        """Show nothing."""
        yield self

    def committed(self, folder: Path) -> None:
        """Show nothing."""

    def finish(self, outcomes: Sequence[Outcome]) -> None:
        """Show nothing."""

    def raise_if_broken(self, store: Path) -> None:
        """Nothing can break."""


class Tracker:
    """The experiment's MLflow run, and the way to open a stage's run under it."""

    def __init__(self, experiment: Experiment, stages: Sequence[Stage]):
        self.uri = experiment.tracking.uri or default_uri()
        self.broken: Exception | None = None
        self.client, self.experiment_id = _connect(self.uri, experiment.tracking.experiment)
        tags = {
            "mlflow.source.name": "dtx run",
            "mlflow.source.type": "LOCAL",
            "mlflow.user": os.environ.get("USER", "dtx"),
            "dtx.targets": ", ".join(experiment.targets),
            **process_tags(),
        }
        run = self.client.create_run(self.experiment_id, run_name=experiment.name, tags=tags)
        self.run_id = run.info.run_id
        self._reconcile()
        self.safely(lambda: self.client.log_dict(self.run_id, experiment.config(), "config.yaml"))
        self.safely(lambda: self._log_params(self.run_id, _flat(experiment.config())))

    def safely(self, call: Any) -> Any:
        """Do a call to the server. Once it fails the work goes on without tracking; see raise_if_broken."""
        if self.broken:
            return None
        try:
            return call()
        except Exception as error:  # whatever a server, database or disk under it can raise
            self.broken = error
            console.print(
                f"[yellow]MLflow at {self.uri} failed ({_short(error)}); the work goes on without it[/]"
            )
            return None

    def raise_if_broken(self, store: Path) -> None:
        """Raise a UserError if tracking was lost on the way; all artefacts are in the store by then."""
        if self.broken:
            raise UserError(
                f"MLflow at {self.uri} was lost on the way ({_short(self.broken)}); all "
                f"results are complete in {store}, curves and figures included, but not in MLflow. "
                "Mend the server for the next run"
            )

    @contextmanager
    def stage(self, stage: Stage, work: Path) -> Iterator[StageRun]:
        """A run for one executed stage, nested under the experiment's."""
        shown = StageRun(self, stage, work)
        status = "FAILED"
        try:
            yield shown
            status = "FINISHED"
        except Interrupted:
            status = "KILLED"
            raise
        finally:
            shown.close(status)

    def finish(self, outcomes: Sequence[Outcome]) -> None:
        """Put headline numbers, figures, a table of stages and a description on the experiment's run."""
        import pandas as pd
        from mlflow.entities import Metric

        store, now = current(), int(time.time() * 1000)
        headline: dict[str, float] = {}
        lines, rows = [], []
        for outcome in outcomes:
            stage = outcome.stage
            if not store.has(stage):
                continue
            summary = stage.summary()
            lines.append(f"- **{stage.name}** ({outcome.status}): {summary}")
            rows.append([stage.name, stage.key, outcome.status, round(outcome.seconds, 1), summary])
            # The first stage of a name wins: what is analysed comes before its controls.
            numbers = {k: v for k, v in read_headline(stage.path).items() if v is not None}
            headline = numbers | headline
        frame = pd.DataFrame(rows, columns=["stage", "key", "status", "seconds", "what came out"])
        targets = [
            o.stage
            for o in outcomes
            if not any(o.stage in p.stage.inputs().values() for p in outcomes)
        ]
        metrics = [Metric(k, v, now, 0) for k, v in headline.items()]
        self.safely(lambda: self.client.log_batch(self.run_id, metrics=metrics))
        self.safely(lambda: _log_table(self.client, self.run_id, frame, "stages.json"))
        self.safely(
            lambda: self.client.set_tag(self.run_id, "mlflow.note.content", "\n".join(lines))
        )
        for stage in targets:
            self._figures(self.run_id, stage.path)
        inputs = [self._input(o.stage, o.status) for o in outcomes if store.has(o.stage)]
        self.safely(lambda: self.client.log_inputs(self.run_id, datasets=inputs))

    def _figures(self, run_id: str, folder: Path) -> None:
        if (folder / "figures").is_dir():
            self.safely(
                lambda: self.client.log_artifacts(run_id, str(folder / "figures"), "figures")
            )

    def _input(self, stage: Stage, context: str) -> Any:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"uri": current().folder(stage).as_uri()})
        dataset = Dataset(stage.name, stage.key, "local", source)
        return DatasetInput(dataset, [InputTag("mlflow.data.context", context)])

    def _log_params(self, run_id: str, values: dict[str, str]) -> None:
        from mlflow.entities import Param

        params = [Param(k, v[:6000]) for k, v in values.items()]
        for i in range(0, len(params), 100):
            self.client.log_batch(run_id, params=params[i : i + 100])

    def _reconcile(self) -> None:
        """A run that a SIGKILL left RUNNING on this machine is marked KILLED."""

        def call() -> None:
            mine = process_tags()
            query = f"attributes.status = 'RUNNING' and tags.`dtx.host` = '{mine['dtx.host']}'"
            for run in self.client.search_runs([self.experiment_id], query, max_results=200):
                process = run.data.tags.get("dtx.process")
                if process and process != mine["dtx.process"] and not alive(process):
                    self.client.set_terminated(run.info.run_id, "KILLED")

        self.safely(call)


class StageRun:
    """The MLflow run of one executed stage."""

    def __init__(self, tracker: Tracker, stage: Stage, work: Path):
        self.tracker, self.stage, self.folder = tracker, stage, work
        self.model_id: str | None = None
        self._sent = {CURVES: 0, TIMING: 0}
        self._stop = threading.Event()
        tags = {
            "mlflow.parentRunId": tracker.run_id,
            "mlflow.source.name": f"dtx {stage.name}",
            "dtx.stage": stage.name,
            "dtx.key": stage.key,
            **process_tags(),
        }
        run = tracker.safely(
            lambda: tracker.client.create_run(
                tracker.experiment_id, run_name=f"{stage.name} {stage.key[:6]}", tags=tags
            )
        )
        self.run_id: str | None = run.info.run_id if run else None
        self._safely(lambda: tracker._log_params(self._id, _flat(stage.config())))
        self._safely(self._log_inputs)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    @property
    def _id(self) -> str:
        assert self.run_id is not None
        return self.run_id

    @property
    def reference(self) -> dict[str, str]:
        """Where the stage is shown, for ``done.json``."""
        if self.run_id is None:
            return {}
        found = {"uri": self.tracker.uri, "run_id": self.run_id}
        return found | ({"model_id": self.model_id} if self.model_id else {})

    def committed(self, folder: Path) -> None:
        """Send the last points, tables, figures and the model of the committed artefact."""
        self._halt()
        self.folder = folder
        self._send_new()
        self._safely(self._log_results)

    def close(self, status: str) -> None:
        """End the run: FINISHED, FAILED or KILLED."""
        self._halt()
        self._safely(lambda: self.tracker.client.set_terminated(self._id, status))

    def _halt(self) -> None:
        self._stop.set()
        self._thread.join()

    def _safely(self, call: Any) -> None:
        if self.run_id is not None:
            self.tracker.safely(call)

    def _follow(self) -> None:
        while not self._stop.wait(_EVERY_SECONDS):
            self._send_new()

    def _send_new(self) -> None:
        """Send curve points that were written since the last call, in batches of 1,000 (MLflow's limit)."""
        from mlflow.entities import Metric

        now, metrics = int(time.time() * 1000), []
        for name, sent in self._sent.items():
            path = self.folder / name
            if not path.exists():
                continue
            data = path.read_bytes()
            whole = data.rfind(b"\n") + 1
            for line in data[min(sent, whole) : whole].splitlines():
                point = json.loads(line)
                step = point.pop("step")
                metrics += [Metric(k, v, now, step) for k, v in point.items() if v is not None]
            self._sent[name] = whole
        for i in range(0, len(metrics), 1000):
            chunk = metrics[i : i + 1000]
            self._safely(lambda chunk=chunk: self.tracker.client.log_batch(self._id, metrics=chunk))

    def _log_inputs(self) -> None:
        from mlflow.entities import LoggedModelInput

        store = current()
        inputs = self.stage.inputs()
        datasets = [self.tracker._input(s, field) for field, s in inputs.items()]
        references = [store.done(s).get("mlflow", {}) for s in inputs.values()]
        # A model made under another database has an id that this one does not know.
        known = [
            r["model_id"]
            for r in references
            if r.get("uri") == self.tracker.uri and "model_id" in r
        ]
        models = [LoggedModelInput(m) for m in dict.fromkeys(known)]
        if datasets or models:
            self.tracker.client.log_inputs(self._id, datasets=datasets, models=models or None)

    def _log_results(self) -> None:
        import pandas as pd
        from mlflow.entities import LoggedModelOutput, Metric

        client, now = self.tracker.client, int(time.time() * 1000)
        headline = read_headline(self.folder)
        client.log_batch(
            self._id, metrics=[Metric(k, v, now, 0) for k, v in headline.items() if v is not None]
        )
        client.set_tag(self._id, "mlflow.note.content", self.stage.summary())
        client.log_artifact(self._id, str(self.folder / "done.json"))
        self.tracker._figures(self._id, self.folder)
        for path in sorted((self.folder / "tables").glob("*.parquet")):
            frame = pd.read_parquet(path)
            if len(frame) <= _TABLE_ROWS:
                _log_table(client, self._id, frame, f"tables/{path.stem}.json")
            client.log_artifact(self._id, str(path), "tables")
        client.log_inputs(self._id, datasets=[self.tracker._input(self.stage, "produced")])
        if (self.folder / "weights.safetensors").exists():
            model = client.create_logged_model(
                self.tracker.experiment_id,
                name=self.stage.label,
                source_run_id=self._id,
                tags={"dtx.key": self.stage.key, "dtx.path": str(self.folder)},
                model_type=self.stage.name,
            )
            client.finalize_logged_model(model.model_id, "READY")
            client.log_outputs(self._id, [LoggedModelOutput(model.model_id, 0)])
            self.model_id = model.model_id


def _connect(uri: str, name: str) -> tuple[Any, str]:
    """A client and the experiment's id; a fresh database is made under a lock."""
    remote = uri.startswith(("http://", "https://"))
    if remote:  # fail in seconds, not after MLflow's default of minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_ENABLE_ASYNC_LOGGING", "false")
    database = Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
    if database and not database.exists():
        console.print("[dim]making the MLflow database (about 10 s, once)[/]")
    try:
        from mlflow import MlflowClient

        for talker in ("mlflow", "alembic"):  # importing mlflow sets them to talk
            logging.getLogger(talker).setLevel(logging.WARNING)
        if database is None:
            client = MlflowClient(uri, registry_uri=uri)
            return client, _experiment_id(client, name, None)
        database.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(database.with_name(database.name + ".lock")):
            client = MlflowClient(uri, registry_uri=uri)
            return client, _experiment_id(client, name, (database.parent / "mlartifacts").as_uri())
    except Exception as error:
        raise UserError(
            f"cannot reach MLflow at {uri}: {_short(error)}; start it, name another with tracking.uri=URI, "
            "or run with tracking.enabled=false. Nothing was run, nothing is lost"
        ) from error


def _log_table(client: Any, run_id: str, frame: Any, name: str) -> None:
    with warnings.catch_warnings():
        # mlflow 3.17 asks pandas for 'object' columns, which pandas 3 warns of; the table is right.
        warnings.filterwarnings("ignore", message="For backward compatibility, 'str' dtypes")
        client.log_table(run_id, frame, name)


def _experiment_id(client: Any, name: str, artifacts: str | None) -> str:
    found = client.get_experiment_by_name(name)
    return (
        found.experiment_id
        if found
        else client.create_experiment(name, artifact_location=artifacts)
    )


def _flat(values: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(values, dict) and values:
        return {
            k: v
            for name, inner in values.items()
            for k, v in _flat(inner, f"{prefix}{name}.").items()
        }
    return {prefix.rstrip("."): str(values)}


def _short(error: Exception) -> str:
    """The innermost cause in one line: ``Connection refused`` rather than a stack of wrappers."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
