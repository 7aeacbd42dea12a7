"""Fixtures for all tests: a store of one's own, one thread, no colours."""

from __future__ import annotations

import copy
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run in parallel processes
os.environ.pop("MLFLOW_TRACKING_URI", None)
if sys.dont_write_bytecode:
    # Where nothing is to be written beside the sources, each of the commands that tests give would compile
    # what it imports: more than half of their time. The bytecode goes to pytest's own folder.
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix

import pytest
import yaml

from dtx.config.compose import Experiment, OnDrift, OnError, OnShortage, StoreConfig, TrackingConfig
from dtx.stage import Stage
from dtx.store import store as stores


@pytest.fixture(scope="session", autouse=True)
def _yaml_is_parsed_once() -> Iterator[None]:
    """Equal YAML text is parsed once a process, which is a third of the time that composing a config takes.

    OmegaConf makes nodes of its own from what is parsed, so that nothing is shared between configs.
    """
    real, parsed = yaml.load, {}

    def load(stream, Loader):
        if isinstance(stream, (str, bytes)):
            return real(stream, Loader=Loader)
        text = stream.read()
        known = (text, Loader.__qualname__)
        if known not in parsed:
            stream.seek(0)  # an error names the file
            parsed[known] = real(stream, Loader=Loader)
        return copy.deepcopy(parsed[known])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml, "load", load)
        yield


@pytest.fixture
def store(tmp_path: Path) -> Iterator[stores.Store]:
    """A fresh store under ``tmp_path/store``, in use during the test."""
    with stores.used(stores.Store(tmp_path / "store")) as store:
        yield store


@pytest.fixture(scope="session")
def made_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs, to be copied: making one takes seconds."""
    from dtx.tracking import Server

    database = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    Server(TrackingConfig(enabled=True, uri=f"sqlite:///{database}", experiment="other"))
    return database


@pytest.fixture
def database(made_database: Path, tmp_path: Path) -> Path:
    """An MLflow database without runs beside ``tmp_path/store``, where dtx looks for it."""
    return Path(shutil.copy(made_database, tmp_path / "mlflow.db"))


@pytest.fixture
def experiment_of(tmp_path: Path) -> Callable[..., Experiment]:
    """Make an experiment of given stages on ``tmp_path/store``, by default without tracking."""

    def make(
        *targets: Stage,
        tracking: bool = False,
        uri: str | None = None,
        remote: str | None = None,
    ) -> Experiment:
        return Experiment(
            name="test",
            targets={f"t{i}": t for i, t in enumerate(targets)},
            store=StoreConfig(path=tmp_path / "store", remote=remote),
            tracking=TrackingConfig(enabled=tracking, uri=uri, experiment="tests"),
            on_error=OnError.CONTINUE,
            on_drift=OnDrift.WARN,
            resources=OnShortage.REFUSE,
            raw={"seed": 0},
            overrides=(),
        )

    return make


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """Hydra's main, and its launchers, configure logging for the whole process."""
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
