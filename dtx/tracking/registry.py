"""Models in MLflow's registry (``tracking.register=true``): loadable, with a signature and an example."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dtx.running.plan import stages
from dtx.stage import Stage
from dtx.store.store import DONE, current
from dtx.text import discreet
from dtx.tracking.job_run import Job
from dtx.tracking.server import Server

if TYPE_CHECKING:
    import numpy as np
    from mlflow.types import Schema

_MODEL = "weights.safetensors"
_ROLES = ("agent", "dt")
_LOADER = "dtx.exchange.mlflow_model"
_NO_NAME = re.compile(r"[/:]")
"""What MLflow refuses in the name of a registered model."""


def register_models(server: Server, job: Job) -> list[str]:
    """Register the agent and the DT of a job as ``EXPERIMENT.ROLE``, each artefact once.

    Args:
        server: Of MLflow.
        job: Its stages are finished, or left out.

    Returns:
        The versions that were made: ``memory_dt.dt/2``.
    """
    store, made = current(), []
    everything = stages(job.experiment.targets.values())
    for stage in everything:
        role = job.names.roles.get(stage.label, "")
        there = store.where(stage) == "local" and (store.folder(stage) / _MODEL).is_file()
        if there and role in _ROLES:
            name = _NO_NAME.sub("_", f"{job.experiment.name}.{role}")
            episodes = next((s for s in everything if _holds_episodes(s)), None)
            version = _register(server, name, stage, store.folder(episodes) if episodes else None)
            made += [version] if version else []
    return made


def _holds_episodes(stage: Stage) -> bool:
    return (current().folder(stage) / "episodes.arrow").is_file()


def _register(server: Server, name: str, stage: Stage, episodes: Path | None) -> str | None:
    from mlflow import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

    client = server.client
    try:
        client.create_registered_model(name, description=f"dtx: {stage.name}")
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    if client.search_model_versions(f"name = '{name}' and tags.`dtx.key` = '{stage.key}'"):
        return None
    reference = current().done(stage).get("mlflow", {})
    if reference.get("uri") != discreet(server.uri) or "model_id" not in reference:
        return None  # its run was deleted here, or is on another server
    model_id = reference["model_id"]
    with tempfile.TemporaryDirectory(prefix="dtx-") as scratch:
        _save(stage, Path(scratch) / "model", episodes)
        client.log_model_artifacts(model_id, str(Path(scratch) / "model"))
    version = client.create_model_version(
        name,
        f"models:/{model_id}",
        reference.get("run_id"),
        tags={"dtx.key": stage.key, "dtx.stage": stage.name},
        description=stage.summary(),
        model_id=model_id,
    )
    return f"{name}/{version.version}"


def _save(stage: Stage, out: Path, episodes: Path | None) -> None:
    """Write what MLflow loads: a copy of the artefact's model with a signature and an example of an input."""
    import numpy as np

    with warnings.catch_warnings():  # importing it warns of type hints of MLflow's own classes
        warnings.filterwarnings("ignore", ".*Any type hint is inferred as AnyType", UserWarning)
        from mlflow.pyfunc import save_model
    from mlflow.models import ModelSignature

    from dtx.exchange import mlflow_model

    folder = stage.path
    example = mlflow_model.example_of(folder, episodes)
    logits = np.asarray(mlflow_model.predictor(folder).predict(example))
    with tempfile.TemporaryDirectory(prefix="dtx-") as scratch:
        data = Path(scratch) / stage.label
        data.mkdir()
        for path in folder.iterdir():
            if path.is_file() and path.suffix in (".safetensors", ".json") and path.name != DONE:
                (data / path.name).symlink_to(path)
        save_model(
            out,
            loader_module=_LOADER,
            data_path=str(data),
            signature=ModelSignature(_schema(example), _schema({"": logits})),
            input_example=example,
            pip_requirements=["dtx"],
        )


def _schema(arrays: Mapping[str, np.ndarray]) -> Schema:
    """Types and shapes; the first two axes, windows and steps, have any length."""
    from mlflow.types import Schema, TensorSpec

    return Schema(
        [
            TensorSpec(array.dtype, (-1, -1, *array.shape[2:]), name or None)
            for name, array in arrays.items()
        ]
    )
