"""Hostile requests to `dtx app`: no failure, no traceback, nothing opened outside the store and dtx."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dtx.config.compose import compose, experiment
from dtx.running.runner import run
from dtx.store.store import Store, used
from tests.app.hostile import Maker
from tests.app.served import client
from tests.servers import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with the planted model: a Decision Transformer that needs no training."""
    folder = tmp_path_factory.mktemp("planted") / "store"
    overrides = ["dt=planted", "target=dt", f"store.path={folder}", "tracking.enabled=false"]
    with used(Store(folder)):
        run(experiment(compose(overrides), overrides))
    return folder


@contextlib.contextmanager
def watched(store, *arguments):
    """`dtx app`, watched; gives the port, and at the end what was said and opened."""
    port = free_port()
    command = [sys.executable, "-m", "tests.app.watched", "app", "--no-browser", f"--port={port}"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300"}
    process = subprocess.Popen(
        [*command, f"--store={store}", *arguments],
        cwd=store.parent,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    found = {}
    try:
        for line in process.stderr:
            if line.startswith("explorer: "):
                break
        yield port, process, found
        process.send_signal(signal.SIGINT)
        out, found["said"] = process.communicate(timeout=60)
        assert process.returncode == 0
        found["seen"] = json.loads(out)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def answer(port, request):
    """The status of an answer; None: the connection was closed without one."""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        data = b""
        with contextlib.suppress(ConnectionError):  # it may be refused before all was sent
            connection.sendall(request)
        if b"ffffffffffffffff" in request:  # a body that never ends
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(65536):
                data += part
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", data)
    return int(found[1]) if found else None, data.partition(b"\r\n\r\n")[2]


def names(port):
    with client(port) as page:
        status, about = page.ask("/about", {})
    assert status == 200
    return [model["id"] for model in about["models"]]


def check(store, count, seed):
    """Send requests at random, and look at what came, was said and opened."""
    with watched(store) as (port, process, found):
        maker = Maker(seed, names(port))
        for _ in range(60):  # what is imported when it is first asked for
            answer(port, maker.request(port))
        process.send_signal(signal.SIGUSR1)
        statuses = {}
        for _ in range(count):
            request = maker.request(port)
            status, body = answer(port, request)
            statuses[status] = statuses.get(status, 0) + 1
            assert status is None or status < 500 or status == 503, (request, body)
            assert b"Traceback" not in body
        assert names(port)  # it still answers
        process.send_signal(signal.SIGUSR2)
        assert names(port)
    assert found["said"] == "the explorer has ended\n"
    assert statuses[200] > count / 10 and statuses[400] > count / 10
    assert {403, 404, 413, 415} <= statuses.keys()
    scratch = f"{tempfile.gettempdir()}/dtx-app-"  # the planted model that was compiled
    ours = (
        scratch,
        str(store),
        str(ROOT / "dtx"),
        str(ROOT / "conf"),
        *map(os.path.realpath, sys.path[1:]),
    )
    wrong = [
        (event, path)
        for event, path, writes in found["seen"]
        if writes or not os.path.realpath(path).startswith(tuple(p for p in ours if p))
    ]
    assert wrong == []
    assert not Path("/tmp/dtx-was-here").exists()


def test_hostile_requests_are_refused_and_open_nothing(store):
    check(store, 200, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
def test_many_hostile_requests(store, seed):
    check(store, 3000, seed)
