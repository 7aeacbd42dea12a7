"""What `dtx ui` refuses; that it serves is tested with the MLflow of a study (tests/tracking)."""

import socket
import sqlite3

import pytest

from dtx.cli import main


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Give the command where there is a database, and take the line that it answers."""
    monkeypatch.chdir(tmp_path)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")

    def give(*arguments: str) -> str:
        assert main(["ui", *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return give


@pytest.mark.parametrize(
    "port", ["0", "-1", "65536", "99999999", "x", "1.5", "", "\u0663", "5000 "]
)
def test_a_port_that_cannot_be_is_refused(refused, port):
    assert refused(f"--port={port}").endswith("is no port; ports are 1 to 65535")


def test_a_port_that_is_taken_is_refused(refused):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"--port: {port} cannot be had (Address already in use)" in refused(
            f"--port={port}", "--uri=sqlite:///mlflow.db"
        )


@pytest.mark.parametrize(
    "uri", ["a=b", "mlruns", "x://y", "http", "file:///tmp", "sqlit:///a", "/a/b.db"]
)
def test_what_is_no_database_and_no_server_is_refused(refused, uri):
    assert "is neither a database nor a server" in refused("--uri", uri)


def test_a_database_that_cannot_be_used_is_told(refused, tmp_path):
    assert "no runs here yet" in refused("--uri", "sqlite:///none.db")
    (tmp_path / "garbage.db").write_bytes(b"garbage" * 100)
    assert "garbage.db" in refused("--uri", "sqlite:///garbage.db")
    assert "is a server and has its own UI" in refused("--uri", "http://127.0.0.1:1")
