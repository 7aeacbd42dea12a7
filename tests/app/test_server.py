"""The explorer's server over HTTP: answers, streams, who goes away, who comes too many, what goes wrong.

The engine here is small and works on a real model with hooks; the explorer's own is in test_hostile.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import http.client
import select
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from dtx.app import server as servers
from dtx.app.server import Server
from dtx.config.compose import build_group
from dtx.dt.history import History
from dtx.dt.model import DecisionTransformerModel, initialise
from dtx.errors import UserError
from tests.app.served import JSON, client, served

LETTERS = "lrfpdtn"
WHEN = {"key": "key", "once": "once", "slow": "long"}


def model() -> DecisionTransformerModel:
    sizes = {"n_layers": 1, "d_model": 16, "n_heads": 2, "d_mlp": 16}
    cfg = dataclasses.replace(build_group("dt/memory_dt", []).model_config(), **sizes)
    made = DecisionTransformerModel(cfg)
    initialise(made, None, 0.15, 0)
    return made.eval().requires_grad_(False)


class Small:
    """Plays letters before a wall, and reads one model by its hooks."""

    def __init__(self, gate: Gate | None = None):
        self.model, self.gate = model(), gate

    def about(self):
        return {"version": 1, "thread": threading.current_thread().name}

    def ask(self, scene, panels, stop):
        for panel in panels:
            if panel["name"] == "broken":
                raise ZeroDivisionError("of\nthis panel")
            if panel["name"] == "wrong":
                raise UserError("this panel\nhas no such number")
        with torch.no_grad():
            logits, cache = self.model.run_with_cache(
                context(self.model, scene["actions"]), names_filter=lambda n: n.endswith("pattern")
            )
        pattern = cache["blocks.0.attn.hook_pattern"][0]
        return {"scene": scene, "logits": logits[0, -1], "pattern": pattern}

    def long(self, scene, panel, stop):
        for row in range(100):
            if self.gate is not None:
                self.gate.enter(row, stop)
            if stop():
                self.gate.left.set()
                return
            answer = self.ask(scene, [panel] if row == panel["parameters"].get("at") else [], stop)
            yield (row + 1) / 100, {**answer, "row": row}

    def text(self, scene, what):
        return f"{what} of {scene['actions']} ä"

    def save(self, scene, stop):
        return f"<!doctype html><title>{scene['actions']}</title>"


class Gate:
    """Holds long work before a row until the test lets it go on, or nobody waits."""

    def __init__(self):
        self.begun, self.left, self.free = (threading.Event() for _ in range(3))

    def enter(self, row, stop):
        self.begun.set()
        while not self.free.wait(0.005) and not stop():
            pass


def context(model, letters):
    history = History(model.cfg, 1, len(letters) + 1)
    for step in range(len(letters) + 1):
        history.see(np.full((1, 7, 7, 3), step % 3, np.uint8), np.array([0.9], np.float32))
        if step < len(letters):
            history.act(np.array([LETTERS.index(letters[step])]))
    return history.context(np.array([0]))


def scene(letters="f"):
    return {"version": 1, "actions": letters}


@pytest.fixture(scope="module")
def port():
    with served(Server(Small, WHEN, {})) as port:
        yield port


@pytest.fixture
def page(port):
    with client(port) as page:
        yield page


@pytest.fixture
def gated():
    """A server whose long work waits at a gate."""
    gate = Gate()
    with served(Server(lambda: Small(gate), WHEN, {})) as port:
        yield port, gate


def test_an_answer_is_what_the_function_gives(page):
    status, answer = page.ask("/ask", {"scene": scene("flf"), "panels": []})
    assert status == 200 and answer["scene"] == scene("flf")
    direct = Small().ask(scene("flf"), [], None)
    np.testing.assert_allclose(answer["logits"], direct["logits"], atol=1e-6)
    assert answer["pattern"].shape == tuple(direct["pattern"].shape)
    assert page.ask("/text", {"scene": scene(), "what": "yaml"}) == (200, "yaml of f ä")
    assert page.ask("/save", {"scene": scene()}) == (200, "<!doctype html><title>f</title>")


def test_a_stream_ends_with_the_result_and_may_leave_out_what_was_between(page):
    status, answers = page.ask("/long", {"scene": scene(), "panel": {"name": "slow"}})
    assert status == 200
    rows = [answer["row"] for answer in answers]
    assert rows == sorted(set(rows)) and rows[-1] == 99
    assert [a["share"] for a in answers] == [(row + 1) / 100 for row in rows]


def test_long_work_and_keys_have_each_their_thread(page):
    status, about = page.ask("/about", {})
    assert (status, about["thread"]) == (200, "explorer, keys")


def test_work_that_is_long_or_once_a_model_goes_into_the_other_lane(gated):
    port, gate = gated
    with client(port) as patching, client(port) as key, client(port) as once:
        patching.send("/long", {"scene": scene(), "panel": {"name": "slow"}})
        assert gate.begun.wait(60)
        once.send("/ask", {"scene": scene("lll"), "panels": [{"name": "once"}]})
        for letters in ("f", "ff", "fff"):  # answered although the long work goes on
            status, answer = key.ask("/ask", {"scene": scene(letters), "panels": [{"name": "key"}]})
            assert (status, answer["scene"]["actions"]) == (200, letters)
        gate.free.set()
        assert once.receive()[1]["scene"]["actions"] == "lll"
        assert patching.receive()[1][-1]["row"] == 99


def test_a_client_that_goes_away_frees_the_lane(gated):
    port, gate = gated
    gone = client(port)
    with gone as patching:
        patching.send("/long", {"scene": scene(), "panel": {"name": "slow"}})
        assert gate.begun.wait(60)
    assert gate.left.wait(60)
    gate.free.set()
    with client(port) as next_one:
        status, answers = next_one.ask("/long", {"scene": scene("ll"), "panel": {"name": "slow"}})
    assert status == 200 and answers[-1]["scene"]["actions"] == "ll"


def test_more_than_may_wait_are_told_to_come_again(gated):
    port, gate = gated
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client(port)) for _ in range(12)]
        clients[0].send("/long", {"scene": scene(), "panel": {"name": "slow"}})
        assert gate.begun.wait(60)
        for one in clients[1:]:
            one.send("/long", {"scene": scene(), "panel": {"name": "slow"}})
        sockets = {one.connection.sock: one for one in clients[1:]}
        refused = []
        while len(refused) < 3:
            for ready in select.select(list(sockets), [], [], 60)[0]:
                answer = sockets.pop(ready).connection.getresponse()
                refused.append((answer.status, answer.headers["Retry-After"]))
        assert refused == [(503, "1")] * 3
        gate.free.set()
        assert [one.receive()[0] for one in sockets.values()] == [200] * 8


def test_a_job_that_takes_too_long_is_refused_and_frees_the_lane(gated, monkeypatch):
    port, gate = gated
    monkeypatch.setattr(servers, "SECONDS", 0.2)
    with client(port) as page:
        status, answer = page.ask("/long", {"scene": scene(), "panel": {"name": "slow"}})
        assert status == 400 and "was given up" in answer["error"]
        assert gate.left.wait(60)
        gate.free.set()
        assert page.ask("/ask", {"scene": scene(), "panels": [{"name": "once"}]})[0] == 200


def test_what_a_user_can_mend_is_said_in_one_line(page):
    status, answer = page.ask("/ask", {"scene": scene(), "panels": [{"name": "wrong"}]})
    assert (status, answer) == (400, {"error": "this panel has no such number"})


def test_a_defect_is_one_line_here_and_there(page, capfd):
    status, answer = page.ask("/ask", {"scene": scene(), "panels": [{"name": "broken"}]})
    line = "ZeroDivisionError: of this panel"
    assert (status, answer) == (500, {"error": f"a defect of dtx: {line}"})
    (said,) = capfd.readouterr().err.splitlines()
    assert said.startswith(f"dtx: defect: {line} (test_server.py:")


def test_what_fails_on_the_way_is_the_last_of_the_stream(page):
    panel = {"name": "wrong", "parameters": {"at": 50}}
    status, answers = page.ask("/long", {"scene": scene(), "panel": panel})
    assert status == 200
    assert answers[-1] == {"error": "this panel has no such number"}
    assert all("row" in answer for answer in answers[:-1])


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/about", {"scene": 1}),
        ("/ask", {}),
        ("/ask", {"scene": {}, "panels": {}}),
        ("/ask", {"scene": {}, "panels": ["attention"]}),
        ("/ask", {"scene": {}, "panels": [{"name": 1}]}),
        ("/ask", {"scene": {}, "panels": [{"name": "a", "parameters": []}]}),
        ("/ask", {"scene": {}, "panels": [{"name": "a", "_target_": "os.system"}]}),
        ("/ask", {"scene": {}, "panels": [], "more": 1}),
        ("/ask", {"scene": {}, "panels": [{"name": "slow"}]}),
        ("/ask", {"scene": {}, "panels": [{"name": "key"}] * 100}),
        ("/long", {"scene": {}, "panel": None}),
        ("/long", {"scene": {}, "panel": {"name": "once"}}),
        ("/text", {"scene": {}, "what": ["yaml"]}),
        ("/save", {"scene": {}, "path": "/tmp/x"}),
    ],
)
def test_what_is_asked_wrongly_is_refused(page, path, asked):
    status, answer = page.ask(path, asked)
    assert status == 400 and isinstance(answer["error"], str)


def test_a_body_that_is_too_large_is_refused_with_and_without_its_length(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", "/ask", b"x" * 70_000, JSON)
        assert connection.getresponse().status == 413
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        # The server closes while the rest is on its way, so that TCP may drop the answer for a reset.
        with contextlib.suppress(ConnectionError):
            connection.request("POST", "/ask", iter([b"x" * 1000] * 70), JSON)
        with contextlib.suppress(ConnectionError):
            assert connection.getresponse().status == 413


def test_a_body_that_does_not_come_is_not_waited_for(port, monkeypatch):
    monkeypatch.setattr(servers, "BODY_SECONDS", 0.1)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.putrequest("POST", "/ask")
        for name, value in {**JSON, "Content-Length": "100"}.items():
            connection.putheader(name, value)
        connection.endheaders(b'{"scene"')
        assert connection.getresponse().status == 408


def test_clients_at_once_get_each_the_answer_of_their_own_scene(port):
    """No answer of another's scene, and no number of another's model: hooks are attributes of modules."""
    alone = Small()

    def session(number):
        rng = np.random.default_rng(number)
        with client(port) as page:
            for _ in range(10):
                letters = "".join(rng.choice(list(LETTERS), rng.integers(1, 9)))
                panels = [{"name": "once"}] if rng.random() < 0.3 else []
                status, answer = page.ask("/ask", {"scene": scene(letters), "panels": panels})
                while status == 503:
                    time.sleep(0.01)
                    status, answer = page.ask("/ask", {"scene": scene(letters), "panels": panels})
                yield letters, status, answer

    with ThreadPoolExecutor(20) as pool:
        answers = [a for found in pool.map(lambda n: list(session(n)), range(20)) for a in found]
    assert len(answers) == 200
    for letters, status, answer in answers:
        assert (status, answer["scene"]["actions"]) == (200, letters)
        right = alone.ask(scene(letters), [], None)
        np.testing.assert_allclose(answer["logits"], right["logits"], atol=1e-5)
        np.testing.assert_allclose(answer["pattern"], right["pattern"], atol=1e-5)


# --- files -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A page of one file, and a store with one artefact that has figures, beside what nobody may get."""
    folder = tmp_path_factory.mktemp("files")
    figures = folder / "store" / "lens-00112233" / "figures"
    figures.mkdir(parents=True)
    (figures.parent / "done.json").write_text("{}")
    (figures / "lens.html").write_text("<script>1</script>")
    (figures / "lens.png").write_bytes(b"png")
    (figures / "weights.bin").write_bytes(b"1")
    (figures / "link.png").symlink_to(folder / "secret.png")
    (folder / "secret.png").write_text("secret")
    (folder / "store" / "unfinished-00" / "figures").mkdir(parents=True)
    (folder / "store" / "unfinished-00" / "figures" / "a.png").write_text("secret")
    (folder / "index.html").write_text("page")
    return folder


@contextlib.contextmanager
def with_files(files, **options):
    page = {"/": files / "index.html"}
    with served(Server(Small, WHEN, page, store=files / "store", **options)) as port:
        yield port


def get(port, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def test_the_page_is_asked_for_again_only_when_it_changed(files):
    with with_files(files) as port:
        status, headers, body = get(port, "/")
        assert (status, body, headers["Cache-Control"]) == (200, b"page", "no-cache")
        assert get(port, "/", **{"If-None-Match": headers["ETag"]})[0] == 304
        _, packed, body = get(port, "/", **{"Accept-Encoding": "gzip, br"})
        assert (packed["Content-Encoding"], gzip.decompress(body)) == ("gzip", b"page")
        (files / "index.html").write_text("newer")
        assert get(port, "/", **{"If-None-Match": headers["ETag"]})[2] == b"newer"
        (files / "index.html").write_text("page")
        assert get(port, "/", Host="a.b")[0] == 403


def test_figures_of_a_store_are_served_apart_from_the_page(files):
    with with_files(files) as port, client(port) as page:
        assert page.ask("/about", {})[1]["files"] is True
        for name, kind, content in (
            ("lens.html", "text/html; charset=utf-8", b"<script>1</script>"),
            ("lens.png", "image/png", b"png"),
        ):
            status, headers, body = get(port, f"/artefact/lens-00112233/figures/{name}")
            assert (status, headers["Content-Type"], body) == (200, kind, content)
            assert headers["Content-Security-Policy"].startswith(
                "sandbox allow-scripts; default-src 'none'"
            )


@pytest.mark.parametrize(
    "path",
    [
        *(
            "lens-00112233/figures/link.png",
            "lens-00112233/figures/weights.bin",
            "lens/figures/lens.png",
        ),
        *("unfinished-00/figures/a.png", "../figures/secret.png", "%2e%2e/figures/secret.png"),
        *(
            "lens-00112233/figures/..%2f..%2f..%2fsecret.png",
            "lens-00112233/figures/%00",
            "./figures/x",
        ),
        *(
            "lens-00112233/figures/../../../secret.png",
            "lens-00112233/figures/",
            "lens-00112233/done.json",
        ),
    ],
)
def test_nothing_else_of_a_store_is_served(files, path):
    with with_files(files) as port:
        status, _, body = get(port, f"/artefact/{path}")
        assert status == 404 and b"secret" not in body


def test_with_a_token_no_figures_are_served(files):
    with with_files(files, token="secret") as port:
        assert get(port, "/artefact/lens-00112233/figures/lens.png")[0] == 404
        assert get(port, "/")[0] == 200
