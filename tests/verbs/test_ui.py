"""What `dtx ui` refuses; what it serves is in test_ui_served.py."""

import os
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


def test_a_port_that_is_taken_is_refused_with_its_owner_and_a_free_one(refused):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(f"--port={port}", "--uri=sqlite:///mlflow.db")
    assert f"--port: {port} cannot be had at 127.0.0.1 (Address already in use, by " in line
    assert f", process {os.getpid()}); name another one" in line
    assert port < int(line.rpartition("`dtx ui --port ")[2].rstrip("`")) < 65536


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


@pytest.mark.parametrize("host", ["no such host", "256.1.1.1", "a" * 300, "-"])
def test_a_host_that_is_none_is_refused(refused, host):
    assert "is no address of this machine" in refused(f"--host={host}", "--uri=sqlite:///mlflow.db")


def test_an_address_of_another_machine_is_refused(refused):
    line = refused("--host=192.0.2.1", "--uri=sqlite:///mlflow.db")  # of documentation
    assert "cannot be had at 192.0.2.1 (Cannot assign requested address)" in line
