"""MLflow's own server in this process, with its UI opened on the runs.

``mlflow server`` starts five processes, opens on pages for language models beside an assistant that opens by
itself, and has no setting for either. Its application is served here as it is, but for two addresses: the
page, which gets a few defaults before it starts, and the assistant, which is refused.
"""

from __future__ import annotations

import json
import os
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dtx import serving
from dtx.tracking.moved import FOLDER
from dtx.tracking.uri import database_of

if TYPE_CHECKING:
    from fastapi import FastAPI
    from mlflow import MlflowClient

_SETTINGS = {
    "mlflow.workflowType_v1": "machine_learning",
    "mlflow.assistant.panelOpen_v1": False,
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": True,
    "mlflow.telemetry.info.alert.dismissed_v1": True,
    "mlflow.settings.telemetry.enabled_v1": False,
}
"""The page's own settings in the browser, by MLflow's names."""

_HEAD = """<style>[data-assistant-ui] {{ display: none !important; }}</style>
<script>
for (const [name, value] of Object.entries({settings}))
  localStorage.setItem(name, JSON.stringify(value));
if (!location.hash) location.replace({landing});
</script>"""
_ASSISTANT = "/ajax-api/3.0/mlflow/assistant/{rest:path}"


def landing(client: MlflowClient) -> str | None:
    """The experiment of the newest run; None: there is no run."""
    experiments = [e.experiment_id for e in client.search_experiments()]
    newest = client.search_runs(experiments, max_results=1, order_by=["start_time DESC"])
    return newest[0].info.experiment_id if newest else None


def serve(uri: str, listening: socket.socket, page: str, started: Callable[[], None]) -> None:
    """Serve until a signal ends it.

    Args:
        uri: Of a database.
        listening: A socket that listens.
        page: Where ``/`` leads: ``#/experiments/1/runs``.
        started: Called once the server answers.
    """
    serving.serve(_application(uri, page), listening, started)


def let_in(names: set[str], port: int) -> None:
    """Answer requests that name this machine so; by default only its own are answered.

    MLflow compares a request's host and origin with these lists, so that no page of another site can use the
    server from a reader's browser.
    """
    local = {"localhost", "127.0.0.1", "[::1]"}
    patterns = [
        f"{name.replace('[', '[[]')}:*" for name in names | local
    ]  # any port, as of a tunnel
    os.environ.setdefault("MLFLOW_SERVER_ALLOWED_HOSTS", ",".join([*names, *local, *patterns]))
    origins = [f"http://{name}:{port}" for name in names]
    os.environ.setdefault("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", ",".join(origins))


def _application(uri: str, page: str) -> FastAPI:
    import mlflow.server
    from starlette.responses import HTMLResponse, JSONResponse
    from starlette.routing import Route

    database = database_of(uri)
    files = database.parent / FOLDER if database else Path(FOLDER).absolute()
    os.environ[mlflow.server.BACKEND_STORE_URI_ENV_VAR] = uri
    os.environ[mlflow.server.REGISTRY_STORE_URI_ENV_VAR] = uri
    # Of experiments that somebody makes in the UI; a client without a server can write there, too.
    os.environ[mlflow.server.ARTIFACT_ROOT_ENV_VAR] = files.as_uri()
    os.environ[mlflow.server.SERVE_ARTIFACTS_ENV_VAR] = "true"
    os.environ[mlflow.server.ARTIFACTS_DESTINATION_ENV_VAR] = str(files)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow uses what its libraries advise against
        from mlflow.server.fastapi_app import app
    head = _HEAD.format(settings=json.dumps(_SETTINGS), landing=json.dumps(page))
    plain = Path(mlflow.server.app.static_folder or "", "index.html").read_text()
    shown = plain.replace("<head>", f"<head>{head}", 1)

    async def index(request: object) -> HTMLResponse:
        return HTMLResponse(shown, headers={"Cache-Control": "no-cache"})

    async def without_assistant(request: object) -> JSONResponse:
        """There is nobody to ask. An error would be shown in the browser's console on every page."""
        return JSONResponse({"providers": [], "resolved": None, "remote_access_allowed": False})

    async def refuse(request: object) -> JSONResponse:
        return JSONResponse({"detail": "dtx ui has no assistant"}, 404)

    app.router.routes[:0] = [
        Route("/", index, methods=["GET"]),
        Route(_ASSISTANT, without_assistant, methods=["GET"]),
        Route(_ASSISTANT, refuse, methods=["POST", "PUT", "PATCH", "DELETE"]),
    ]
    return app
