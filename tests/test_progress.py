import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dtx import progress as module
from dtx.progress import (
    PROGRESS,
    console,
    copied,
    duration,
    in_words,
    progress,
    read_progress,
    remove_progress,
    report_to,
)
from dtx.text import say


class Clock:
    """Stands in for the ``time`` module: the seconds pass when the test says so."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    return found


def test_file_has_amount_rate_and_note_and_is_written_every_two_seconds(tmp_path, clock):
    with report_to(tmp_path), progress("ppo", 1000, "frames") as bar:
        bar.move_to(100, "success .1")
        assert read_progress(tmp_path)["done"] == 100
        clock.now += 1
        bar.move_to(150)
        assert read_progress(tmp_path)["done"] == 100  # too soon
        clock.now += 1
        bar.advance(150, "success .5")
    assert read_progress(tmp_path) == {
        "title": "ppo",
        "done": 300,
        "total": 1000,
        "unit": "frames",
        "rate": 100,  # the first 100 may be an earlier run's
        "note": "success .5",
        "time": 1002,
    }


def test_a_stage_has_the_title_that_the_run_gives_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "_PRINT_EVERY", 0)
    monkeypatch.setattr(module, "quiet", lambda: True)
    with report_to(tmp_path, "3 of 7 behaviour clone"), progress("dt", 10, "windows") as bar:
        bar.advance(5)
    assert read_progress(tmp_path)["title"] == "3 of 7 behaviour clone"
    assert "3 of 7 behaviour clone: 5 of 10 windows (50%)" in capsys.readouterr().err
    with progress("dt", 10, "windows") as bar:
        bar.advance(5)
    assert "dt: 5 of 10 windows" in capsys.readouterr().err


def test_a_file_of_an_earlier_version_has_no_title(tmp_path):
    old = {"done": 1, "total": 2, "unit": "frames", "rate": 1, "note": "", "time": 0}
    (tmp_path / PROGRESS).write_text(json.dumps(old))
    assert read_progress(tmp_path) == {**old, "title": ""}


def test_no_file_outside_report_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with report_to(tmp_path):
        pass
    with progress("ppo", 10, "frames") as bar:
        bar.advance(5)
    assert list(tmp_path.iterdir()) == []


def test_half_a_file_is_no_progress_and_both_go_at_the_end(tmp_path):
    (tmp_path / PROGRESS).write_text('{"done": 1')
    (tmp_path / f"{PROGRESS}.partial").write_text("{")
    assert read_progress(tmp_path) is None
    (tmp_path / PROGRESS).write_text(json.dumps({"done": "many"}))
    assert read_progress(tmp_path) is None
    remove_progress(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_cannot_be_written_does_not_stop_the_work(tmp_path):
    with report_to(tmp_path / "gone"), progress("ppo", 10, "frames") as bar:
        bar.advance(10)


def test_without_a_terminal_a_line_every_thirty_seconds(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(module, "quiet", lambda: True)
    with console.capture() as shown, progress("ppo", 6100, "frames") as bar:
        bar.move_to(100)
        for _ in range(6):
            clock.now += 10
            bar.advance(500, "[success] .5")
    assert shown.get().splitlines() == [
        "ppo: 1,600 of 6,100 frames (26%), 50 frames/s, 2 min left, [success] .5",
        "ppo: 3,100 of 6,100 frames (51%), 50 frames/s, 60 s left, [success] .5",
    ]


def test_words():
    assert in_words(0, 10, "windows", 0) == "0 of 10 windows (0%)"
    assert in_words(3, 10, "windows", 0.5) == "3 of 10 windows (30%), 0.5 windows/s, 14 s left"
    assert in_words(0, 0, "windows", 0) == "0 of 0 windows (100%)"
    assert [duration(s) for s in (0, 89.4, 90, 3600, 5400, 12_000, 356_400)] == [
        "0 s",
        "89 s",
        "2 min",
        "60 min",
        "1 h 30 min",
        "3 h 20 min",
        "4 d 3 h",
    ]


@pytest.mark.parametrize("columns", ["0", "", "-1", "x", "00"])
def test_a_terminal_of_no_width_is_told_all_the_same(columns):
    done = subprocess.run(
        [sys.executable, "-c", "from dtx.progress import console; console.print('some words')"],
        env={**os.environ, "COLUMNS": columns, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.stderr.strip() == "some words"


def test_a_log_has_what_was_printed_before_it_had_a_file(tmp_path, capsys):
    with copied() as log:
        console.print("first: s3://me:hunter2@host")
        assert not list(tmp_path.iterdir())
        log.keep(tmp_path / "one" / "dtx.log")
        log.keep(tmp_path / "two" / "dtx.log")  # it has one already
        say("second")
        assert (tmp_path / "one" / "dtx.log").read_text().count("\n") == 2  # after a kill, too
    console.print("third")
    said = (tmp_path / "one" / "dtx.log").read_text().splitlines()
    assert said == ["first: s3://***@host", "dtx: second"]
    assert not (tmp_path / "two").exists() and "third" in capsys.readouterr().err
