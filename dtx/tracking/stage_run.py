"""The MLflow run of one executed stage: its parameters, its curves while it runs, its results."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dtx.analysis.core.result import Result
from dtx.files import read_table
from dtx.report import CURVES, RESULT, TIMING, read_metrics
from dtx.run.provenance import git_state, versions
from dtx.stage import Stage
from dtx.store.store import DONE, current
from dtx.text import discreet
from dtx.tracking.server import Point, Server, dataset_input, files_in, flat, produced

_EVERY_SECONDS = 3.0
_TABLE_ROWS = 2000  # MLflow's table viewer loads a table whole


class StageRun:
    """Opened when a stage starts; a thread follows its curve files and sends new points in batches.

    Args:
        server: Of MLflow.
        parent: Run of the experiment or sweep.
        stage: The stage.
        work: Folder that the stage writes to.
        swept: Swept fields that the stage depends on, shown among its parameters.
        overrides: From the command line.
    """

    def __init__(
        self,
        server: Server,
        parent: str,
        stage: Stage,
        work: Path,
        swept: Mapping[str, str],
        overrides: tuple[str, ...],
    ):
        self.server, self.stage, self.folder = server, stage, work
        self.model_id: str | None = None
        self._sent = {CURVES: 0, TIMING: 0}
        self._stop = threading.Event()
        git = git_state(stage.source_file().resolve().parent)
        tags = {
            "mlflow.source.name": f"dtx {stage.name}",
            "dtx.stage": stage.name,
            "dtx.key": stage.key,
            "dtx.overrides": " ".join(overrides)[:5000],
            "dtx.packages": json.dumps(versions()),
            **({"mlflow.source.git.commit": git["sha"]} if git else {}),
            **({"dtx.uncommitted": "yes"} if git and git["diff"] else {}),
        }
        self.run_id: str | None = server.safely(
            lambda: server.start(f"{stage.name} {stage.key[:6]}", tags, parent)
        )
        self._safely(lambda: server.log_params(self._id, flat(stage.config()) | dict(swept)))
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
        reference = {"uri": discreet(self.server.uri), "run_id": self.run_id}
        return reference | ({"model_id": self.model_id} if self.model_id else {})

    def committed(self, folder: Path, record: Mapping[str, Any], summary: str) -> None:
        """Send the last points, tables, figures and the model of the committed artefact."""
        self._halt()
        self.folder = folder

        def send() -> None:
            last = self._new_points()
            self.model_id = log_results(self.server, self._id, folder, record, summary, last)

        self._safely(send)

    def failed(self, what: str, details: str) -> None:
        """Show why the stage failed."""
        self._safely(lambda: self.server.log_metrics(self._id, [], {"dtx.error": what[:5000]}))
        self._safely(lambda: self.server.log_text(self._id, "error.txt", details))

    def close(self, status: str) -> None:
        """End the run: FINISHED, FAILED or KILLED."""
        self._halt()
        if self.run_id is not None:
            self.server.end(self.run_id, status)

    def _halt(self) -> None:
        self._stop.set()
        self._thread.join()

    def _safely(self, call: Callable[[], object]) -> None:
        if self.run_id is not None:
            self.server.safely(call)

    def _follow(self) -> None:
        while not self._stop.wait(_EVERY_SECONDS):
            self._send_new()

    def _send_new(self) -> None:
        points = self._new_points()
        if points:
            self._safely(lambda: self.server.log_metrics(self._id, points))

    def _new_points(self) -> list[Point]:
        """Curve points that were written since the last call."""
        points = []
        for name, sent in self._sent.items():
            path = self.folder / name
            if path.exists():
                new, self._sent[name] = _points(path, sent)
                points += new
        return points

    def _log_inputs(self) -> None:
        from mlflow.entities import LoggedModelInput

        store = current()
        inputs = self.stage.inputs()
        datasets = [dataset_input(s, field) for field, s in inputs.items()]
        references = [store.done(s).get("mlflow", {}) for s in inputs.values()]
        # The id of a model that was logged to another database is not known in this one.
        known = [
            r["model_id"]
            for r in references
            if r.get("uri") == discreet(self.server.uri) and "model_id" in r
        ]
        models = [LoggedModelInput(m) for m in dict.fromkeys(known)]
        if datasets or models:
            self.server.client.log_inputs(self._id, datasets=datasets, models=models or None)


def _points(path: Path, sent: int) -> tuple[list[Point], int]:
    """Points of the whole lines after ``sent`` bytes, and the bytes read by then."""
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    points = []
    for line in data[min(sent, whole) : whole].splitlines():
        point = json.loads(line)
        step = point.pop("step")
        points += [(k, v, step) for k, v in point.items() if v is not None]
    return points, whole


def unsent(server: Server, run_id: str, folder: Path) -> list[Point]:
    """Points of an artefact's curves that a killed process did not send."""
    points = [
        point
        for name in (CURVES, TIMING)
        if (folder / name).exists()
        for point in _points(folder / name, 0)[0]
    ]
    last = {
        name: max((m.step for m in server.client.get_metric_history(run_id, name)), default=-1)
        for name in {name for name, _, _ in points}
    }
    return [point for point in points if point[2] > last[point[0]]]


def log_results(
    server: Server,
    run_id: str,
    folder: Path,
    record: Mapping[str, Any],
    summary: str,
    points: Sequence[Point] = (),
) -> str | None:
    """Log an artefact's numbers, result, provenance, figures, tables and model.

    An analysis' run gets the tag ``dtx.established``: ``true`` or ``false``.

    Args:
        server: Of MLflow.
        run_id: The stage's run.
        folder: The artefact's.
        record: Its ``done.json``.
        summary: The run's description.
        points: Of the curves, not sent yet.

    Returns:
        The model's id; None if the artefact holds none.
    """
    import pyarrow.parquet as pq

    spent = {
        f"system/{name}": record[name]
        for name in ("seconds", "cpu_seconds", "peak_memory_mb")
        if name in record
    }
    numbers = {**read_metrics(folder), **spent}
    measured = [(k, v, 0) for k, v in numbers.items() if v is not None]
    tables = files_in(folder, "tables")
    frames = {
        f"tables/{path.stem}.json": read_table(path)
        for path in tables.values()
        if pq.read_metadata(path).num_rows <= _TABLE_ROWS
    }
    files = {DONE: folder / DONE, **files_in(folder, "figures"), **tables}
    tags = {}
    if (folder / RESULT).is_file():
        files[RESULT] = folder / RESULT
        tags["dtx.established"] = str(Result.read(folder).established).lower()
    server.show(run_id, [*points, *measured], summary, files, frames, tags)
    server.client.log_inputs(run_id, datasets=[produced(record["stage"], record["key"], folder)])
    return _log_model(server, run_id, folder, record)


def _log_model(server: Server, run_id: str, folder: Path, record: Mapping[str, Any]) -> str | None:
    from mlflow.entities import LoggedModelOutput

    if not (folder / "weights.safetensors").exists():
        return None
    model = server.client.create_logged_model(
        server.experiment_id,
        name=folder.name,
        source_run_id=run_id,
        tags={"dtx.key": record["key"], "dtx.path": str(folder)},
        model_type=record["stage"],
    )
    server.client.finalize_logged_model(model.model_id, "READY")
    server.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    return model.model_id
