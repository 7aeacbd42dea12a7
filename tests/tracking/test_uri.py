import sqlite3

import pytest

from dtx.errors import UserError
from dtx.store.store import Store, used
from dtx.tracking.uri import absolute, database_of, default_uri, uri_of

NAMES = [
    "plain",
    "a=b",
    "run[1]",
    "what?now",
    "h#x",
    "50%25 off",
    "50% off",
    "über größe",
    "a b",
    "a&b",
    "it's",
]
NAMES += [
    'say "x"',
    "a+b",
    "${here}",
    "$HOME",
    "~",
    "a;b",
    "a,b",
    "{x}",
    "-m",
    "a:b",
    "a@b",
    "..x",
    "x" * 200,
]


@pytest.mark.parametrize("name", NAMES)
def test_any_folder_can_hold_the_database(tmp_path, name):
    from sqlalchemy import create_engine, text

    path = tmp_path / name / "mlflow.db"
    path.parent.mkdir()
    uri = uri_of(path)
    assert database_of(uri) == path and absolute(uri) == uri
    engine = create_engine(uri)
    with engine.begin() as connection:
        connection.execute(text("create table one (two int)"))
    engine.dispose()
    assert sqlite3.connect(path).execute("select * from one").fetchall() == []
    assert [p.name for p in tmp_path.iterdir()] == [name]
    with used(Store(tmp_path / name / "store")):
        assert default_uri() == uri


def test_a_relative_uri_is_of_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert absolute("sqlite:///rel.db") == f"sqlite:///{tmp_path}/rel.db"
    assert absolute("sqlite:///sub/../rel.db").endswith("rel.db")
    assert absolute("sqlite:///~/rel.db") == f"sqlite:///{tmp_path}/home/rel.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///env.db")
    assert default_uri() == f"sqlite:///{tmp_path}/env.db"


@pytest.mark.parametrize(
    "uri",
    [
        "http://host:5000",
        "postgresql://u:p@h/db",
        "sqlite:///:memory:",
        "sqlite://",
        "databricks",
        "file:///x",
        "sqlite:///file:/x.db?uri=true",
    ],
)
def test_what_names_no_file_is_left_as_it_is(uri):
    assert database_of(uri) is None and absolute(uri) == uri


def test_a_library_that_cannot_name_the_folder_is_told(tmp_path, monkeypatch):
    from sqlalchemy.engine import URL

    monkeypatch.setattr(URL, "render_as_string", lambda self: f"sqlite+pysqlite:///{self.database}")
    with pytest.raises(UserError, match="SQLAlchemy cannot name such a folder"):
        uri_of(tmp_path / "what?now" / "mlflow.db")
