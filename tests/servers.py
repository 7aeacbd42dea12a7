"""Real servers on loopback: a private PostgreSQL cluster, and `mlflow server` on a database of it.

Shared by the tests and `benchmarks/overhead.py`. Nothing here touches a cluster of the system.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

_START_SECONDS = 120.0  # a fresh MLflow database alone takes 10 s of one core


@dataclass(frozen=True)
class Server:
    """A running `mlflow server`."""

    uri: str
    process: subprocess.Popen
    artifacts: Path

    def kill(self) -> None:
        """SIGKILL the server with its worker, as a crash of the machine would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def postgres_lacks() -> str:
    """What is missing for PostgreSQL, with the command that installs it; empty if all is there."""
    if _binaries() is None:
        return "PostgreSQL is not installed (`apt-get install postgresql`)"
    if find_spec("psycopg2") is None:
        return "psycopg2 is not installed (`pip install 'dtx[postgres]'`)"
    if os.geteuid() == 0 and _account() is None:
        return "PostgreSQL does not run as root, and there is no user `postgres`"
    return ""


@contextlib.contextmanager
def postgres(*, durable: bool = False) -> Iterator[Callable[[], str]]:
    """A fresh cluster in a folder of its own, reached by a Unix socket only.

    Args:
        durable: Wait for the disk at each commit, as a server in use does.

    Yields:
        A function that makes an empty database and gives its SQLAlchemy URI.
    """
    binaries = _binaries()
    assert binaries is not None, postgres_lacks()
    account = _account() if os.geteuid() == 0 else None
    # The server refuses to run as root; the name of a socket may have 107 bytes, so not pytest's folder.
    owner = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    folder = Path(tempfile.mkdtemp(prefix="dtx-postgres-"))
    try:
        if account:
            os.chown(folder, account.pw_uid, account.pw_gid)
        data, log = folder / "data", folder / "log"
        making = [binaries / "initdb", "--pgdata", data, "--username=dtx", "--auth=trust"]
        making += ["--encoding=UTF8", "--no-locale", "--no-sync"]
        made = subprocess.run(making, cwd=folder, capture_output=True, text=True, **owner)
        assert made.returncode == 0, made.stderr
        command = [binaries / "postgres", "-D", data, "-c", f"unix_socket_directories={folder}"]
        command += ["-c", "listen_addresses=", "-c", f"fsync={'on' if durable else 'off'}"]
        with log.open("w") as told:
            process = subprocess.Popen(command, cwd=folder, stdout=told, stderr=told, **owner)
        try:
            _wait_until(lambda: _ready(folder), process, log)
            names = (f"dtx_{i}" for i in range(1_000_000))

            def database() -> str:
                name = next(names)
                with _connection(folder, "postgres") as connection:
                    connection.cursor().execute(f"CREATE DATABASE {name}")
                return f"postgresql+psycopg2://dtx@/{name}?host={folder}"

            yield database
        finally:
            process.send_signal(signal.SIGQUIT)  # at once: nothing in it is kept
            process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def mlflow_server(database: str, folder: Path, port: int | None = None) -> Iterator[Server]:
    """`mlflow server` with one worker, which also takes and serves the artefacts.

    Args:
        database: SQLAlchemy URI of the backend store.
        folder: For the artefacts and the server's log.
        port: On loopback; by default a free one.
    """
    port = port or free_port()
    uri, log = f"http://127.0.0.1:{port}", folder / "mlflow-server.log"
    artifacts = folder / "server-artifacts"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database]
    command += ["--serve-artifacts", "--artifacts-destination", str(artifacts)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # Without the job runner the server is 2 processes instead of 10.
    env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    env.pop("MLFLOW_TRACKING_URI", None)
    with log.open("a") as told:
        process = subprocess.Popen(
            command, cwd=folder, env=env, stdout=told, stderr=told, start_new_session=True
        )
    server = Server(uri, process, artifacts)
    try:
        _wait_until(lambda: _healthy(uri), process, log)
        yield server
    finally:
        server.kill()


def free_port() -> int:
    """A port of loopback that nobody listened on a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _binaries() -> Path | None:
    """The newest PostgreSQL on this machine: Debian keeps each version's programs out of the PATH."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: -float(p.parent.name))
    on_path = shutil.which("initdb")
    places = [*debian, *([Path(on_path).resolve().parent] if on_path else [])]
    return next((p for p in places if (p / "initdb").exists() and (p / "postgres").exists()), None)


def _account() -> pwd.struct_passwd | None:
    """The user that Debian's package makes for the server."""
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return None


@contextlib.contextmanager
def _connection(folder: Path, name: str) -> Iterator:
    import psycopg2

    connection = psycopg2.connect(host=str(folder), user="dtx", dbname=name)
    connection.autocommit = True  # CREATE DATABASE does not run inside a transaction
    try:
        yield connection
    finally:
        connection.close()


def _ready(folder: Path) -> bool:
    import psycopg2

    try:
        with _connection(folder, "postgres"):
            return True
    except psycopg2.OperationalError:
        return False


def _healthy(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{process.args[0]} did not start:\n{log.read_text()[-3000:]}")
        time.sleep(0.1)
