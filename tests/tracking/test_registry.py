"""Models in MLflow's registry, loaded again by MLflow and compared with the model itself."""

import dataclasses

import numpy as np
import pytest
import torch

from dtx.config.compose import compose, experiment
from dtx.running.runner import run
from tests.fast import FAST


@pytest.fixture
def small(store, database):
    """A small DT and its agent, registered."""
    what = experiment(compose([*FAST, "target=dt", "tracking.register=true"]))
    what = dataclasses.replace(what, store=dataclasses.replace(what.store, path=store.root))
    run(what)
    return what


def test_models_are_registered_once_with_signature_and_example_and_can_be_loaded(
    small, store, database, monkeypatch
):
    import mlflow
    from mlflow import MlflowClient

    uri = f"sqlite:///{database}"
    client = MlflowClient(uri, registry_uri=uri)
    dt = small.targets["dt"]
    run(dataclasses.replace(small, overrides=("seed=0",)))  # nothing is left to do
    names = {m.name for m in client.search_registered_models()}
    assert names == {"memory_dt.agent", "memory_dt.dt"}
    (version,) = client.search_model_versions("name = 'memory_dt.dt'")
    assert version.tags["dtx.key"] == dt.key and version.version == "1"

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", uri)
    loaded = mlflow.pyfunc.load_model("models:/memory_dt.dt/1")
    assert loaded.metadata.signature.inputs.input_names() == [
        "observation",
        "action",
        "reward_to_go",
        "timestep",
    ]
    example = loaded.input_example
    logits = loaded.predict(example)
    windows, steps = example["action"].shape
    assert logits.shape == (windows, steps, 7) and example["observation"].any()
    # Another length, and another return asked for, than the example's.
    shorter = {name: values[:, :2] for name, values in example.items()}
    np.testing.assert_allclose(loaded.predict(shorter), logits[:, :2], atol=1e-5)
    asked = {**example, "reward_to_go": example["reward_to_go"] + 1}
    assert np.abs(loaded.predict(asked) - logits).max() > 1e-4

    agent = mlflow.pyfunc.load_model("models:/memory_dt.agent/1")
    seen = agent.input_example["observation"]
    network = dt.dataset.agent.load()
    with torch.no_grad():
        wanted, _, _ = network.step(torch.as_tensor(seen[:, 0]), network.initial_memory(len(seen)))
    np.testing.assert_allclose(agent.predict({"observation": seen})[:, 0], wanted, atol=1e-5)
