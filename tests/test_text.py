import json
from pathlib import Path

import pytest

from dtx.text import bytes_in_words, columns, discreet, file_name, printable

ODD = [
    "",
    ".",
    "..",
    "../../../esc",
    "/etc/passwd",
    "a/b",
    "größe",
    "grüße",
    "gr__e",
    "gr_e",
    "a b",
    "a_b",
    "a\nb",
    "\0",
]
ODD += [
    "n" * 300,
    "n" * 301,
    "-rf",
    ".hidden",
    "A~b",
    "con.",
    "x" * 100,
    "x" * 101,
    "\udce9",
    "東京",
    "東亰",
]


def test_names_of_files_are_short_plain_and_differ_as_their_texts_do():
    names = [file_name(text) for text in ODD]
    assert len(set(names)) == len(ODD)
    for text, name in zip(ODD, names, strict=True):
        assert name.isascii() and 0 < len(name) <= 100 and Path(name).name == name, text
        assert not name.startswith((".", "-"))
    assert file_name("seed-0_a.B") == "seed-0_a.B" and file_name(names[3]) != names[3]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:sEcReT@host:5/x", "http://***@host:5/x"),
        (
            "at postgresql+psycopg2://me:sEcReT@h/db, retry",
            "at postgresql+psycopg2://***@h/db, retry",
        ),
        ("https://sEcReT@host", "https://***@host"),
        ("s3://key:sEcReT@bucket/prefix", "s3://***@bucket/prefix"),
        ("https://h/x?token=sEcReT&y=1", "https://h/x?token=***&y=1"),
        ("https://h/x?y=1&api_key=sEcReT", "https://h/x?y=1&api_key=***"),
        ("https://h/x?X-Amz-Signature=sEcReT", "https://h/x?X-Amz-Signature=***"),
        ("http://a:sEcReT@h http://b:sEcReT@h", "http://***@h http://***@h"),
        ("mail a@b.c about http://host/x@y", "mail a@b.c about http://host/x@y"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("[dim]x[/]", "[dim]x[/]"),
    ],
)
def test_what_lets_somebody_in_is_not_shown(text, shown):
    assert discreet(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain größe 東京", "plain größe 東京"),
        ("two\nlines\tand", "two\nlines\tand"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("back\bspace\r", "back\\x08space\\r"),
        ("\u202eright to left", "\\u202eright to left"),
        ("\x9b31m", "\\x9b31m"),
    ],
)
def test_nothing_printed_commands_the_terminal(text, shown):
    assert printable(text) == shown
    assert "\x1b" not in columns([[text, "x"], ["y", "z"]])


def test_sizes_in_words():
    sizes = (0, 999, 1000, 12_345, 1_234_567, 5.2e12, 6e19, 3e25)
    words = ["0 B", "999 B", "1.0 kB", "12 kB", "1.2 MB", "5.2 TB", "60 EB", "3e+07 EB"]
    assert [bytes_in_words(s) for s in sizes] == words


def test_json_stays_json_without_what_lets_somebody_in():
    record = {"diff": 'say("http://me:hunter2@host/?token=hunter2")', "other": "?key=a\\b"}
    text = discreet(json.dumps(record))
    assert json.loads(text)["diff"] == 'say("http://***@host/?token=***")'
