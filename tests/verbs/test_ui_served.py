"""What `dtx ui` serves: its own process, over HTTP and in a real browser."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from dtx.running.names import Names
from dtx.running.runner import run
from dtx.store.store import Store, used
from dtx.tracking import Job
from dtx.tracking.links import PORT, review
from tests.browser import browser, browser_lacks
from tests.servers import free_port, postgres, postgres_lacks
from tests.toys import Number, Sum

ROOT = Path(__file__).absolute().parents[2]
ONE, TWO = Number(value=1), Number(value=2)
TOTAL = Sum(left=ONE, right=TWO)
NOT_OURS = ("/mlflow/users/current", "ResizeObserver loop")
"""Errors that MLflow's page shows in the console of every server without users."""


@contextlib.contextmanager
def ui(folder, *arguments):
    """Start `dtx ui` as a user would; give its process, the link, and what it said before."""
    command = [sys.executable, "-m", "dtx", "ui", f"--port={free_port()}", *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300"}
    process = subprocess.Popen(command, cwd=folder, env=env, stderr=subprocess.PIPE, text=True)
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"^runs: (http://\S+) \(Ctrl-C ends it\)$", line):
                yield process, found[1], said
                break
        else:
            raise AssertionError(f"no address: {said}")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with a store and an MLflow database of one experiment's run and three stages."""
    from tests.conftest import experiment_of

    folder = tmp_path_factory.mktemp("project")
    what = experiment_of.__wrapped__(folder)(TOTAL, tracking=True)
    with used(Store(folder / "store")):
        run(what)
        line = review(what.tracking, lambda: Job(Names(what)).command)
    return folder, line


@pytest.fixture(scope="module")
def served(project):
    with ui(project[0]) as (_, link, _):
        yield link


def ask(link, path, data=None, method=None, **headers):
    """The status and body of an answer."""
    base = link.partition("#")[0].rstrip("/")
    data = json.dumps(data).encode() if data is not None else None
    headers = {"Content-Type": "application/json", **headers}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(base + path, data, headers, method=method), timeout=60
        ) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_link_is_printed_once_the_server_answers_and_nothing_above_it(project):
    with ui(project[0]) as (process, link, said):
        assert ask(link, "/health") == (200, "OK")
        assert [line.strip() for line in said] == [
            "MLflow's UI starts (seconds)",
            f"runs: {link} (Ctrl-C ends it)",
        ]
        assert re.search(r"/#/experiments/1/runs\?workflowType=machine_learning$", link)
        assert psutil.Process(process.pid).children(recursive=True) == []
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert process.stderr.read() == "MLflow's UI has ended\n"
    port = int(re.search(r":(\d+)/", link)[1])
    socket.create_server(("127.0.0.1", port)).close()  # it is free again


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_ends_are_clean_too(project, number):
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("these tests run under nohup, and so does the UI")
    with ui(project[0]) as (process, _, _):
        process.send_signal(number)
        assert process.wait(60) == 0
        assert process.stderr.read() == "MLflow's UI has ended\n"


def test_telemetry_and_the_assistant_are_off(served):
    status, telemetry = ask(served, "/ajax-api/3.0/mlflow/ui-telemetry")
    assert status == 200 and json.loads(telemetry)["disable_ui_telemetry"] is True
    for path in ("message", "config", "sessions/1"):
        status, body = ask(served, f"/ajax-api/3.0/mlflow/assistant/{path}", {"message": "hello"})
        assert (status, json.loads(body)) == (404, {"detail": "dtx ui has no assistant"})


def test_pages_of_other_sites_are_refused(served):
    search = "/ajax-api/2.0/mlflow/runs/search"
    asked = {"experiment_ids": ["1"]}
    assert ask(served, search, asked)[0] == 200
    assert ask(served, search, asked, Origin="http://example.com")[0] == 403
    assert ask(served, "/", Host="example.com")[0] == 403


def test_a_host_for_others_says_that_there_is_no_login_and_takes_this_machines_name(project):
    with ui(project[0], "--host=0.0.0.0") as (_, link, said):
        assert "the UI has no login: whoever reaches" in said[1]
        name = socket.gethostname()
        port = re.search(r":(\d+)/", link)[1]
        assert link.startswith(f"http://{name}:{port}/")
        here = f"http://127.0.0.1:{port}/"  # the name may not be known to this machine's resolver
        search, asked = "/ajax-api/2.0/mlflow/runs/search", {"experiment_ids": ["1"]}
        for origin, status in ((f"http://{name}:{port}", 200), ("http://example.com", 403)):
            answer = ask(here, search, asked, Host=f"{name}:{port}", Origin=origin)
            assert answer[0] == status


def test_a_database_without_runs_is_told(tmp_path, database):
    command = [sys.executable, "-m", "dtx", "ui", f"--port={free_port()}"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300"}
    told = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert told.returncode == 2
    assert f"no runs here yet (sqlite:///{database})" in told.stderr.splitlines()[-1]


@pytest.mark.skipif(bool(postgres_lacks()), reason=postgres_lacks())
def test_a_database_of_postgres_is_served(tmp_path):
    from mlflow import MlflowClient

    with postgres() as database:
        uri = database()
        client = MlflowClient(uri, registry_uri=uri)
        client.create_run(client.create_experiment("theirs"), run_name="on_postgres")
        with ui(tmp_path, f"--uri={uri}") as (_, link, _):
            search, asked = "/ajax-api/2.0/mlflow/runs/search", {"experiment_ids": ["1"]}
            assert "on_postgres" in ask(link, search, asked)[1]


@pytest.fixture
def page():
    if lacks := browser_lacks():
        pytest.skip(lacks)
    with browser() as page:
        yield page


def unexpected(page):
    return [error for error in page.errors if not any(known in error for known in NOT_OURS)]


@pytest.mark.parametrize("start", ["the printed link", "/"])
def test_the_page_lists_the_runs(served, page, start):
    page.open(served if start != "/" else served.partition("#")[0])
    page.wait_for_text("4 matching runs")
    page.wait(
        "[...document.querySelectorAll('a[href*=\"/runs/\"]')].some(a => a.innerText.trim() === 'test')"
    )
    assert not {"Welcome to MLflow", "MLflow Assistant"} & set(page.text().splitlines())
    assert page.js("!document.querySelector('[data-assistant-ui]')?.checkVisibility()")
    assert unexpected(page) == []
    here = served.partition("#")[0]
    assert [url for url in page.asked if not url.startswith((here, "data:", "blob:"))] == []


def test_the_link_of_a_run_shows_that_run(project, served, page):
    line = project[1]
    assert re.fullmatch(
        rf"review: dtx ui --uri sqlite:////\S+/mlflow.db, then http://127.0.0.1:{PORT}/#/experiments/1/runs/"
        r"[0-9a-f]{32}\?workflowType=machine_learning",
        line,
    )
    page.open(served.partition("#")[0] + line.partition("/#")[2].join(("#", "")))
    page.wait_for_text("Child runs")
    page.wait_for_text(f" {TOTAL.key[:6]}")  # a child, by its role
    assert unexpected(page) == []
