"""Wrong overrides, command lines and files; see fuzz.py, which is also a script."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.fuzz import Outcome
from tests.end_to_end.fuzz_files import BY_WHAT_IT_SAYS
from tests.end_to_end.material import ROOT


def fuzz(material: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run the script: a process of its own, as it forks."""
    command = [sys.executable, "-m", "tests.end_to_end.fuzz", "--material", str(material)]
    return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)


def test_what_is_wrong_is_told_in_a_line(material):
    counts = ["--overrides", "10", "--lines", "15", "--files", "20"]
    done = fuzz(material, *counts)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "files: commands 20, wrong 0" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_what_is_wrong_is_told_in_a_line_thousands_of_times(material, capsys):
    counts = ["--overrides", "2000", "--lines", "500", "--files", "500", "--seed", "200"]
    done = fuzz(material, *counts)
    with capsys.disabled():
        print("", done.stdout, sep="\n")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({}, ""),
        ({"said": "Traceback (most recent call last):", "status": 1}, "a traceback"),
        ({"status": 2, "said": " \n"}, "status 2 without a word"),
        ({"status": -9}, "status -9"),
        ({"cpu_seconds": 11.0}, "11 s of CPU time"),
        ({"seconds": 30.1}, "30 s"),
        ({"megabytes": 1001.0}, "1001 MB"),
    ],
)
def test_the_judge_sees_what_is_wrong(change, wrong):
    right = {
        "status": 2,
        "said": "dtx: error: x",
        "seconds": 1.0,
        "cpu_seconds": 1.0,
        "megabytes": 1.0,
    }
    one = Outcome(kind="lines", number=0, done="", arguments=[], **{**right, **change})
    assert one.wrong == wrong


@pytest.mark.parametrize("suffix", sorted(BY_WHAT_IT_SAYS))
def test_every_kind_of_file_is_changed(material, suffix):
    path = next(p for p in sorted(material.rglob(f"*{suffix}")) if p.stat().st_size > 2)
    content = path.read_bytes()
    made = [BY_WHAT_IT_SAYS[suffix](content, random.Random(seed)) for seed in range(8)]
    assert all(said for said, _ in made)
    assert sum(data != content for _, data in made) >= 6
