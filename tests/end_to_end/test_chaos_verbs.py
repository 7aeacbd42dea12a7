"""Harm done to every verb and healed by the same command; see chaos_verbs.py, which is also a script."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.chaos_harm import HARM, possible
from tests.end_to_end.chaos_verbs import (
    COMMANDS,
    Reference,
    event,
    processes_in,
    reference,
)
from tests.end_to_end.material import ROOT


def harm(material: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run the script: a process of its own, as it forks."""
    command = [sys.executable, "-m", "tests.end_to_end.chaos_verbs", "--material", str(material)]
    return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)


def test_some_harm_is_healed(material: Path):
    quick = ["import model", "export dataset", "pull", "cp", "invalidate"]
    done = harm(material, "--events", "6", "--command", *quick)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "events: 6" in done.stdout
    assert "events after which something was wrong: 0" in done.stdout


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
def test_two_hundred_times_harmed_everything_is_healed(material: Path, capsys):
    done = harm(material, "--events", "200", "--seed", "200")
    with capsys.disabled():
        print("", done.stdout, sep="\n")
    assert done.returncode == 0, done.stdout + done.stderr
    happened = set(re.findall(r"^  (.+), (.+): \d+$", done.stdout, re.M))
    assert {kind for kind, _ in happened} == set(filter(possible, HARM))
    assert {command for _, command in happened} == set(COMMANDS)
