"""Harm done to every verb and healed by the same command; see chaos_verbs.py, which is also a script."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.chaos_harm import HARM
from tests.end_to_end.chaos_verbs import (
    COMMANDS,
    Reference,
    chaos,
    event,
    processes_in,
    reference,
)


def test_some_harm_is_healed(material: Path, tmp_path: Path):
    def quick(harm: str, command: str) -> bool:
        return command in ("import model", "export dataset", "pull") and harm != "terminal closed"

    tally = chaos(tmp_path, material, 4, seed=0, only=quick)
    assert not tally.wrong, tally.lines()
    assert all(e.compared > 50 for e in tally.events)


def test_what_is_not_as_it_should_be_is_seen(material: Path, tmp_path: Path):
    right = reference(material, tmp_path, "cp")
    name, *_ = right.files
    wrong = {"x": "0", **right.files, name: "another"}
    del wrong["more/agent/own.yaml"]
    again = event(material, tmp_path, "killed", "cp", Reference(wrong, 1.0), random.Random(0))
    assert sorted(again.problems) == sorted(
        [f"{name}: differs", "more/agent/own.yaml: too many", "x: missing"]
    )


def test_a_process_that_is_left_is_seen(tmp_path: Path):
    (tmp_path / "here").mkdir()
    sleeping = subprocess.Popen(["sleep", "60"], cwd=tmp_path / "here")
    try:
        assert [p.pid for p in processes_in(tmp_path)] == [sleeping.pid]
    finally:
        sleeping.kill()
        sleeping.wait()


@pytest.mark.slow
@pytest.mark.timeout(14400)
def test_two_hundred_times_harmed_everything_is_healed(material: Path, tmp_path: Path, capsys):
    tally = chaos(tmp_path, material, 200, seed=200)
    with capsys.disabled():
        print("", *tally.lines(), sep="\n")
    assert not tally.wrong
    happened = [e for e in tally.events if e.happened]
    assert len(happened) >= 200
    assert {e.harm for e in happened} == set(HARM)
    assert {e.command for e in happened} == set(COMMANDS)
