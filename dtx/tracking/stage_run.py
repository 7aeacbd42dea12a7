"""The MLflow run of one executed stage: its parameters, its curves while it runs, its results."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtx.analysis.core.result import Result
from dtx.files import parse_json, read_table, taken_from
from dtx.report import CURVES, RESULT, TIMING, read_metrics
from dtx.running.provenance import provenance
from dtx.stage import Stage
from dtx.store.inventory import Artefact, artefact
from dtx.store.store import DONE, current
from dtx.text import discreet
from dtx.tracking.server import Point, Server, dataset_of, files_in, flat, metric_name

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

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
        record = {**provenance(stage), "overrides": list(overrides)}
        self.run_id: str | None = server.safely(lambda: start_run(server, record, parent))
        self._safely(lambda: log_origin(server, self._id, record, swept))
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
            results = Results.read(Artefact(folder, record, 0), summary)
            self.model_id = results.log(self.server, self._id, last)

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


def start_run(
    server: Server, record: Mapping[str, Any], parent: str | None, at: int | None = None
) -> str:
    """Start the run of a stage, now or at a time (ms), and give its id.

    Args:
        server: Of MLflow.
        record: The stage's, as in ``done.json``; before the stage runs, as far as it is known.
        parent: Run of the experiment or sweep; None: the run stands alone.
        at: When the stage began (ms); None: now.
    """
    name, key, git = record["stage"], record["key"], record.get("git")
    tags = {
        "mlflow.source.name": f"dtx {name}",
        "dtx.stage": name,
        "dtx.key": key,
        "dtx.overrides": " ".join(record.get("overrides", ()))[:5000],
        "dtx.packages": json.dumps(record.get("packages", {})),
        **({"mlflow.source.git.commit": git["sha"]} if git else {}),
        **({"dtx.uncommitted": "yes"} if git and git["diff"] else {}),
    }
    return server.start(f"{name} {key[:6]}", tags, parent, at)


def log_origin(
    server: Server,
    run_id: str,
    record: Mapping[str, Any],
    swept: Mapping[str, str],
    known: Mapping[str, str] | None = None,
) -> None:
    """Log what a stage is made from: parameters, but those ``known`` to the run, inputs and their models."""
    from mlflow.entities import LoggedModelInput

    server.log_params(run_id, flat(record["config"]) | dict(swept), known)
    inputs = record["inputs"]
    datasets = [dataset_of(label, field) for field, label in inputs.items()]
    references = [_reference(current().root / label) for label in inputs.values()]
    # The id of a model that was logged to another database is not known in this one.
    model_ids = [
        r["model_id"]
        for r in references
        if r.get("uri") == discreet(server.uri) and "model_id" in r
    ]
    models = [LoggedModelInput(m) for m in dict.fromkeys(model_ids)]
    if datasets or models:
        server.client.log_inputs(run_id, datasets=datasets, models=models or None)


def _reference(folder: Path) -> dict[str, str]:
    """Where an artefact is shown; empty if it is not here."""
    return artefact(folder).record.get("mlflow", {})


def _points(path: Path, sent: int) -> tuple[list[Point], int]:
    """Points of the whole lines after ``sent`` bytes, and the bytes read by then."""
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    points = []
    with taken_from(path):
        for line in data[min(sent, whole) : whole].splitlines():
            point = parse_json(line, str(path))
            step = point.pop("step")
            points += [(k, v, step) for k, v in point.items() if v is not None]
    return points, whole


def curve_points(folder: Path) -> list[Point]:
    """All points of an artefact's curves."""
    paths = [folder / name for name in (CURVES, TIMING)]
    return [point for path in paths if path.exists() for point in _points(path, 0)[0]]


def unsent(server: Server, run: Run, points: Sequence[Point]) -> list[Point]:
    """The points of curves that are not in a run yet."""
    history = server.client.get_metric_history
    last = {
        name: max((m.step for m in history(run.info.run_id, shown)), default=-1)
        for name in {name for name, _, _ in points}
        if (shown := metric_name(name)) in run.data.metrics
    }
    return [point for point in points if point[2] > last.get(point[0], -1)]


@dataclass(frozen=True)
class Results:
    """What a run shows of a finished artefact.

    Attributes:
        artefact: Whose results.
        summary: The run's description.
        measured: Numbers of the result, and what it cost.
        files: By their place among the run's artefacts.
        frames: Tables by place.
        tags: Of an analysis, ``dtx.established``: ``true`` or ``false``.
    """

    artefact: Artefact
    summary: str
    measured: list[Point]
    files: dict[str, Path]
    frames: dict[str, pd.DataFrame]
    tags: dict[str, str]

    @classmethod
    def read(cls, artefact: Artefact, summary: str) -> Results:
        """The results in an artefact's files.

        Raises:
            OSError, ValueError, KeyError: A file is missing or damaged.
        """
        import pyarrow.parquet as pq

        folder, record = artefact.folder, artefact.record
        spent = {
            f"system/{name}": record[name]
            for name in ("seconds", "cpu_seconds", "peak_memory_mb")
            if name in record
        }
        numbers = {**read_metrics(folder), **spent}
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
        measured = [(k, v, 0) for k, v in numbers.items() if v is not None]
        return cls(artefact, summary, measured, files, frames, tags)

    def log(
        self, server: Server, run_id: str, points: Sequence[Point], begun: Run | None = None
    ) -> str | None:
        """Send them to the artefact's run; twice adds nothing.

        Args:
            server: Of MLflow.
            run_id: The stage's run.
            points: Of the curves, not sent yet.
            begun: The run, if an earlier process may have sent a part.

        Returns:
            The model's id; None if the artefact holds none.
        """
        if begun and begun.data.metrics:  # the points go after those that are there
            server.log_metrics(run_id, points)
            points = ()
        # MLflow keeps equal points once: their time is not that of sending. Records have whole seconds.
        at = int(self.artefact.finished * 1000) + 999
        shown = [*points, *self.measured]
        server.show(run_id, shown, self.summary, self.files, self.frames, self.tags, at)
        produced = dataset_of(self.artefact.label, "produced")
        server.client.log_inputs(run_id, datasets=[produced])
        if not (self.artefact.folder / "weights.safetensors").exists():
            return None
        return _log_model(server, run_id, self.artefact, begun)


def _log_model(server: Server, run_id: str, artefact: Artefact, begun: Run | None) -> str:
    from mlflow.entities import LoggedModelOutput

    client, where = server.client, [server.experiment_id]
    made = client.search_logged_models(where, f"source_run_id = '{run_id}'") if begun else ()
    model = next(iter(made), None) or client.create_logged_model(
        server.experiment_id,
        name=artefact.label,
        source_run_id=run_id,
        tags={"dtx.key": artefact.record["key"], "dtx.path": str(artefact.folder)},
        model_type=artefact.record["stage"],
    )
    client.finalize_logged_model(model.model_id, "READY")
    if not (begun and begun.outputs and begun.outputs.model_outputs):
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    return model.model_id
