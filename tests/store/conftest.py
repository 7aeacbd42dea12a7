"""Remote stores of both kinds, and machines that use them."""

import dataclasses
import os
from collections.abc import Callable

import pytest

from dtx.config.compose import StoreConfig
from dtx.running.runner import run
from dtx.stage import Stage
from tests import object_store
from tests.store.remotes import Files, Place


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if reason := object_store.lacking():
        pytest.skip(reason)
    server = object_store.S3Server(tmp_path_factory.mktemp("s3") / "buckets")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(server, tmp_path, monkeypatch, store):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_store.KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_store.SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    if server.process.poll() is not None:
        server.start()
    place = f"{object_store.BUCKET}/{tmp_path.name}"
    return Place(f"s3://{place}", server.folder / place, Files(count=60, size=100_000), server)


@pytest.fixture
def folder(tmp_path, store):
    (tmp_path / "shared").mkdir()
    return Place(str(tmp_path / "shared"), tmp_path / "shared", Files(count=1500, size=1000))


@pytest.fixture(params=["folder", "s3"])
def place(request) -> Place:
    return request.getfixturevalue(request.param)


@pytest.fixture
def machine(tmp_path, experiment_of) -> Callable:
    """``machine(name, url)`` gives what runs stages with that machine's store: stages -> statuses."""

    def make(name: str, url: str | None) -> Callable:
        def statuses(*targets: Stage) -> list[str]:
            experiment = dataclasses.replace(
                experiment_of(*targets),
                store=StoreConfig(path=tmp_path / name / "store", remote=url),
            )
            return [o.status for o in run(experiment)]

        (tmp_path / name).mkdir(exist_ok=True)
        return statuses

    return make
