"""`dtx app`: what it prints and refuses, where it is served, and that it writes nothing."""

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
import yaml

from dtx.app.frames import decode
from dtx.cli import main
from tests.servers import free_port

ROOT = Path(__file__).absolute().parents[2]
ADDRESS = re.compile(r"explorer: (http://\S+) \(Ctrl-C ends it\)\n")


@contextlib.contextmanager
def app(folder, *arguments):
    """Start `dtx app` as a user would; give its process, the address, and what it said before."""
    command = [sys.executable, "-m", "dtx", "app", "--no-browser", *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300"}
    process = subprocess.Popen(command, cwd=folder, env=env, stderr=subprocess.PIPE, text=True)
    said = []
    try:
        for line in process.stderr:
            if found := ADDRESS.fullmatch(line):
                yield process, found[1], said
                break
            said.append(line)
        else:
            raise AssertionError(f"no address: {said}")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def post(address, path, value, **headers):
    """Status and body of an answer."""
    base = address.partition("#")[0].rstrip("/")
    headers = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(base + path, json.dumps(value).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Give the command, and take the line that it answers."""
    monkeypatch.chdir(tmp_path)

    def give(*arguments):
        assert main(["app", "--no-browser", *arguments]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    return give


def test_the_address_is_printed_once_it_answers_and_ctrl_c_ends_it(tmp_path, port):
    with app(tmp_path, f"--port={port}") as (process, address, said):
        assert said == ["the explorer starts (seconds)\n"]
        assert address == f"http://127.0.0.1:{port}/"
        status, body = post(address, "/about", {})
        assert (status, decode(body)["engine"]) == (200, "server")
        assert psutil.Process(process.pid).children(recursive=True) == []
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert process.stderr.read() == "the explorer has ended\n"
    socket.create_server(("127.0.0.1", port)).close()  # it is free again


@pytest.fixture(scope="module")
def nothing(tmp_path_factory):
    """The explorer in an empty folder: the folder, process and address."""
    folder = tmp_path_factory.mktemp("nothing")
    with app(folder, f"--port={free_port()}") as (process, address, _):
        yield folder, process, address


def test_it_is_served_to_this_machine_alone(nothing):
    _, process, address = nothing
    listening = [c for c in psutil.Process(process.pid).net_connections() if not c.raddr]
    assert {c.laddr.ip for c in listening} == {"127.0.0.1"}
    assert post(address, "/about", {}, Host="example.com")[0] == 403
    assert post(address, "/about", {}, Origin="http://example.com")[0] == 403


def test_nothing_is_written_not_even_a_store(nothing):
    folder, _, address = nothing
    assert post(address, "/about", {})[0] == 200
    assert post(address, "/ask", {"scene": {}, "panels": []})[0] in (200, 400)
    assert list(folder.iterdir()) == []


def test_a_host_for_others_makes_a_token(tmp_path, port):
    with app(tmp_path, "--host=0.0.0.0", f"--port={port}", "--scene=#1&a=f") as (_, address, _):
        name, token = re.fullmatch(
            rf"http://([^/]+):{port}/#token=([\w-]{{32}})&1&a=f", address
        ).groups()
        assert name == socket.gethostname()
        here = f"http://127.0.0.1:{port}"
        host = {"Host": f"{name}:{port}"}
        assert post(here, "/about", {}, **host)[0] == 401
        assert post(here, "/about", {}, Authorization=f"Bearer {token[:-1]}x", **host)[0] == 401
        assert post(here, "/about", {}, Authorization=f"Bearer {token}", **host)[0] == 200
        assert post(here, "/about", {}, Authorization=f"Bearer {token}", Host="a.b")[0] == 403


def test_the_usual_port_that_is_taken_is_named_with_its_owner_and_the_next_is_used(tmp_path):
    from dtx.verbs.app import PORT

    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # another program's, which does as well
            stack.enter_context(socket.create_server(("127.0.0.1", PORT)))
        with app(tmp_path) as (_, address, said):
            other = int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/", address)[1])
            assert other > PORT
            assert re.fullmatch(
                rf"port {PORT} is taken, by .+, process \d+; this one is {other}\n", said[0]
            )
            assert post(address, "/about", {})[0] == 200


def test_a_port_of_ones_own_that_is_taken_is_refused(refused):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(f"--port={port}")
    assert f"{port} cannot be had at 127.0.0.1 (Address already in use, by " in line
    assert f"process {os.getpid()})" in line and "dtx app --port" in line


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--port=0"], "is no port"),
        (["--host=no such host"], "is no address of this machine"),
        (["--panels=nowhere"], "--panels: no folder nowhere"),
        (["--store=file"], "is not a folder"),
        (["--sae=nowhere"], "--sae: no folder nowhere"),
    ],
)
def test_what_cannot_be_is_refused(refused, tmp_path, port, arguments, why):
    (tmp_path / "file").write_text("")
    arguments = [f"--port={port}", *arguments] if "--port=0" not in arguments else arguments
    assert why in refused(*arguments)


def test_help_is_instant():
    """Nothing heavy is imported for it, nor before the port is taken."""
    heavy = "{'torch', 'starlette', 'uvicorn', 'mlflow', 'numpy'}"
    code = f"import sys, dtx.verbs.app; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


@pytest.fixture
def planted(tmp_path):
    """A folder with a store of one planted model."""
    from dtx.config.compose import compose, experiment
    from dtx.running.runner import run
    from dtx.store.store import Store, used

    overrides = ["dt=planted", "target=dt", f"store.path={tmp_path}/store"]
    overrides += ["tracking.enabled=false"]
    with used(Store(tmp_path / "store")):
        run(experiment(compose(overrides), overrides))
    return tmp_path


@pytest.fixture
def own(tmp_path):
    """A folder with a panel of the user's."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "steps.py").write_text(
        '"""How many steps were taken."""\n'
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from dtx.app.panels import number\n"
        'TITLE, CONTROL, SOURCE, DOC = "Steps", "none", "len", "explorer"\n'
        'WHEN, NEEDS, FIRST, SIZE = "key", (), False, "half"\n'
        "@dataclass(frozen=True)\n"
        "class Parameters:\n"
        '    more: int = number(0, 0, 9, "added")\n'
        "def compute(moment, parameters):\n"
        '    return {"steps": len(moment.original.run.actions) + parameters.more}\n'
    )
    (own / "steps.js").write_text("export const draw = () => {};\n")
    return own


def test_a_store_is_followed_and_left_as_it_is_and_panels_of_ones_own_are_served(
    planted, own, port
):
    store, away = planted / "store", planted / "away"
    store.rename(away)

    def labels(address):
        return [model["label"] for model in decode(post(address, "/about", {})[1])["models"]]

    with app(planted, f"--port={port}", f"--panels={own}") as (_, address, _):
        before = labels(address)
        away.rename(store)
        (label,) = [path.name for path in store.iterdir() if path.name.startswith("planted-")]
        assert label in labels(address) and label not in before
        kept = files(planted)
        panels = [{"name": "attention"}, {"name": "steps", "parameters": {"more": 2}}]
        asked = {"scene": {"actions": "fff"}, "panels": panels}
        status, body = post(address, "/ask", asked)
        answer = decode(body)
        assert (status, answer["messages"]) == (200, [])
        assert answer["panels"]["steps"] == [{"data": {"steps": 5}}]
        with urllib.request.urlopen(f"{address}panels/steps.js") as script:
            assert script.read() == (own / "steps.js").read_bytes()
            assert script.headers["Content-Type"].startswith("text/javascript")
        assert files(planted) == kept
        (store / label).rename(planted / label)
        assert labels(address) == before
    assert sorted(path.name for path in own.iterdir()) == ["steps.js", "steps.py"]  # no cache


def test_a_scene_is_printed_as_a_pairs_file_without_a_browser(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    scene = "#1&a=ff&w=key/left&x=1&e=set_rtg:value=0:scope=all"
    assert main(["app", "--scene", scene, "--yaml"]) == 0
    told = capsys.readouterr()
    raw = yaml.safe_load(told.out)
    assert raw["source"]["prefix"]["actions"] == ["forward", "forward"]
    assert raw["edits"]["scene"] == [{"op": "set_rtg", "value": 0, "scope": "all"}]
    assert list(tmp_path.iterdir()) == []
    assert main(["app", "--scene", "#1&a=ff", "--yaml"]) == 2
    assert "nothing is edited" in capsys.readouterr().err


def test_a_scene_of_a_link_is_repaired_and_what_was_wrong_is_said(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scene = "#1&t=x&e=set_rtg:value=0:scope=all"
    assert main(["app", "--scene", scene, "--yaml"]) == 0
    assert "--scene: cursor: " in capsys.readouterr().err
