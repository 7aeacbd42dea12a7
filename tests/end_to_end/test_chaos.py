"""Signals at random moments over the whole pipeline; see chaos.py, which is also a script."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.end_to_end.chaos import FEATURES, chaos

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]


def test_killed_fifty_times_everything_is_bit_identical(tmp_path: Path, capsys):
    tally = chaos(tmp_path, 50, seed=0)
    with capsys.disabled():
        print("", *tally.lines(), sep="\n")
    assert not tally.problems, tally.problems
    assert len(tally.signals) >= 50
    assert len({s.stage for s in tally.signals}) >= 5  # kills in every stage and in between
    assert {"scratch", "a checkpoint"} <= {s.goes_on for s in tally.signals}


def test_stopped_cleanly_thirty_times_everything_is_bit_identical(tmp_path: Path, capsys):
    tally = chaos(tmp_path, 30, seed=0, numbers=(signal.SIGTERM, signal.SIGINT))
    with capsys.disabled():
        print("", *tally.lines(), sep="\n")
    assert not tally.problems, tally.problems
    assert sum(s.status == 130 for s in tally.signals) >= 20


def test_killed_on_the_way_to_features_everything_is_bit_identical(tmp_path: Path, capsys):
    """Activations, dictionaries of the model and of untrained networks, an analysis of them."""
    tally = chaos(tmp_path, 20, seed=0, pipeline=FEATURES)
    with capsys.disabled():
        print("", *tally.lines(), sep="\n")
    assert not tally.problems, tally.problems
    assert len(tally.signals) >= 20
    assert {"scratch", "a checkpoint"} <= {s.goes_on for s in tally.signals}
