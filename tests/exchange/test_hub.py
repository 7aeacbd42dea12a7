"""Models to a hub and from it, against a small server with Hugging Face's interface on this machine."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dtx.errors import UserError
from dtx.exchange.hub import push

pytest.importorskip("huggingface_hub", reason="an extra")
from huggingface_hub import ModelCard

ROOT = Path(__file__).parents[2]


class Hub(BaseHTTPRequestHandler):
    """Repositories of models as dictionaries of files; no large-file storage."""

    address: str
    models: dict[str, dict[str, bytes]]

    def log_message(self, *args) -> None:
        pass

    def _answer(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, content: object, status: int = 200, **headers: str) -> None:
        self._answer(
            json.dumps(content).encode(), status, Content_Type="application/json", **headers
        )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != "Bearer token":
            return self._json({"error": "Invalid username or password."}, 401)
        if self.path == "/api/repos/create":
            what = json.loads(body)
            name = "/".join(filter(None, (what.get("organization"), what["name"])))
            self.models.setdefault(name, {})
            return self._json({"url": f"{self.address}/{name}", "name": name, "id": name})
        if self.path == "/api/validate-yaml":  # the card's front matter
            return self._json({"errors": [], "warnings": []})
        _, _, _, owner, model, action, *_ = self.path.split("/")
        if action == "preupload":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            return self._json({"files": files})
        assert action == "commit", self.path
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.models[f"{owner}/{model}"][line["value"]["path"]] = content
        return self._json(
            {"commitUrl": f"{self.address}/{owner}/{model}/commit/0", "commitOid": "0" * 40}
        )

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/"):
            name = "/".join(path.split("/")[3:5])
            if name not in self.models:
                return self._json(
                    {"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound"
                )
            files = [{"rfilename": one} for one in self.models[name]]
            found = {
                "id": name,
                "modelId": name,
                "sha": "0" * 40,
                "siblings": files,
                "private": False,
            }
            if "/tree/" in path:
                entries = self.models[name].items()
                return self._json(
                    [
                        {"type": "file", "path": p, "size": len(c), "oid": "0" * 40}
                        for p, c in entries
                    ]
                )
            return self._json(found)
        if "/resolve/" not in path:
            return self._json({"error": "no such page"}, 404)
        owner, model, _, _, *rest = path.strip("/").split("/")
        content = self.models.get(f"{owner}/{model}", {}).get("/".join(rest))
        if content is None:
            return self._json({"error": "no file"}, 404, X_Error_Code="EntryNotFound")
        return self._answer(content, ETag=f'"{len(content):040x}"', X_Repo_Commit="0" * 40)


@pytest.fixture(scope="module")
def hub():
    handler = type("Served", (Hub,), {"models": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    handler.address = f"http://127.0.0.1:{server.server_port}"
    yield handler
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """With a planted model in ./store."""
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def dtx(hub, folder) -> Callable[..., subprocess.CompletedProcess]:
    def run(*args: str, token: str = "token") -> subprocess.CompletedProcess:
        own = {"HF_ENDPOINT": hub.address, "HF_TOKEN": token, "HF_HOME": str(folder / "cache")}
        return subprocess.run(
            [sys.executable, "-m", "dtx", *args],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **own},
            capture_output=True,
            text=True,
        )

    made = run("run", "dt=planted", "target=dt", "tracking.enabled=false")
    assert made.returncode == 0, made.stderr
    return run


def test_a_model_goes_to_the_hub_and_comes_back_the_same(dtx, hub, folder):
    done = dtx("export", "planted", "handed", "--licence", "mit", "--push", "me/planted")
    assert done.returncode == 0, done.stderr
    assert f"pushed to {hub.address}/me/planted" in done.stdout
    assert "dtx import hf://me/planted" in done.stdout
    sent = hub.models["me/planted"]
    assert {"weights.safetensors", "model.json", "lineage.json", "README.md"} <= set(sent)
    for name, content in sent.items():
        assert (folder / "handed" / name).read_bytes() == content

    hub.models["me/planted"]["evil.py"] = b"raise SystemExit"
    done = dtx("import", "hf://me/planted", "--as", "theirs", "store.path=other")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (folder / "imported" / "me--planted" / "evil.py").exists()
    (made,) = (folder / "other").glob("imported-*")
    assert (made / "weights.safetensors").read_bytes() == sent["weights.safetensors"]

    card = ModelCard.load(folder / "handed" / "README.md")
    assert card.data.license == "mit" and card.data.library_name == "dtx"
    assert card.data.eval_results and "decision-transformer" in card.data.tags


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["import", "hf://me/nothing"], "cannot fetch hf://me/nothing"),
        (["import", "hf://nothing"], "is named OWNER/MODEL"),
        (["export", "planted", "out", "--private"], "--private goes with --push"),
        (["export", "planted", "out", "--push", "no name"], "is named OWNER/MODEL"),
        (["export", "planted", "out", "--push", "me/planted"], "cannot push to me/planted"),
    ],
)
def test_what_cannot_be_is_one_line(dtx, args, words):
    done = dtx(*args, token="another account's")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert words in done.stderr.splitlines()[-1]


def test_without_the_extra_it_says_which(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'dtx\[hub\]'"):
        push(Path("handed"), "me/planted", private=False)
