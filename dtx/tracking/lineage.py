"""Links of a run to the artefacts that it reads: demonstrations are datasets, agents and DTs are models."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtx.dataset.episodes import Episodes
from dtx.errors import UserError
from dtx.store.inventory import artefact
from dtx.store.store import current
from dtx.text import discreet
from dtx.tracking.server import Server

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

_LINKED_AT_ONCE = 100
INPUTS = "dtx.inputs"
"""Tag with the labels of all that a run read: ``tags.`dtx.inputs` LIKE '%KEY%'`` finds a key's readers."""


class Lineage:
    """Links artefacts to runs; what is known of an artefact is read once.

    Args:
        server: Of MLflow.
    """

    def __init__(self, server: Server):
        self._server = server
        self._datasets: dict[str, dict[str, str] | None] = {}
        self._models: dict[str, str | None] = {}

    def link(self, run_id: str, read: Mapping[str, str]) -> None:
        """Link those of some artefacts that are datasets or models of this server.

        Args:
            run_id: The run that reads them.
            read: By label, what each is to the run: the field that it is in, ``produced``, ``reused``.
        """
        from mlflow.entities import LoggedModelInput

        datasets = [d for label, use in read.items() if (d := self._dataset(label, use))]
        models = [m for label in read if (m := self._model(label))]
        for i in range(0, max(len(datasets), len(models)), _LINKED_AT_ONCE):
            some = slice(i, i + _LINKED_AT_ONCE)
            inputs = [LoggedModelInput(m) for m in dict.fromkeys(models[some])]
            self._server.client.log_inputs(run_id, datasets=datasets[some], models=inputs or None)

    def _dataset(self, label: str, use: str) -> DatasetInput | None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        if label not in self._datasets:
            self._datasets[label] = _described(current().root / label)
        described = self._datasets[label]
        if described is None:
            return None
        name, _, key = label.rpartition("-")
        dataset = Dataset(name, key, "local", **described)
        return DatasetInput(dataset, [InputTag("mlflow.data.context", use)])

    def _model(self, label: str) -> str | None:
        if label not in self._models:
            reference = artefact(current().root / label).record.get("mlflow", {})
            model = reference.get("model_id")
            own = reference.get("uri") == discreet(self._server.uri)
            self._models[label] = model if model and (own or self._is_known(model)) else None
        return self._models[label]

    def _is_known(self, model: str) -> bool:
        """Whether a model is known that was logged at another place: the project has been moved since."""
        from mlflow import MlflowException

        try:
            self._server.client.get_logged_model(model)
        except MlflowException:
            return False
        return True


def read_by(record: Mapping[str, Any]) -> dict[str, str]:
    """The inputs of a stage's record: the field of each, by label."""
    return {label: field for field, label in record["inputs"].items()}


def _described(folder: Path) -> dict[str, str] | None:
    """Source and profile of demonstrations; None of all else."""
    if not (folder / "episodes.arrow").is_file():
        return None
    profile: dict[str, float] = {}
    with contextlib.suppress(UserError):  # damaged: whoever reads the episodes reports it
        episodes = Episodes.read(folder)
        returns = episodes.returns
        profile = {"episodes": len(episodes.start), "steps": len(episodes.action)}
        if len(returns):
            profile["mean_return"] = round(float(returns.mean(dtype=float)), 6)
    source = json.dumps({"uri": folder.as_uri()})
    return {"source": source, **({"profile": json.dumps(profile)} if profile else {})}
