"""Where a signal cuts in, and where it waits."""

import os
import pty
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from dtx.errors import Interrupted
from dtx.running.runner import run
from dtx.running.signals import defer_signals, signals
from tests.toys import Number
from tests.where import WHERE, write_where

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@dataclass(frozen=True, kw_only=True)
class InterruptedWhenCommitted(Number):
    """A signal comes right after the commit."""

    def summary(self) -> str:
        signal.raise_signal(signal.SIGTERM)
        return "summarised"


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_is_delayed_until_the_block_ends(number):
    before = signal.getsignal(number)
    steps = []
    with pytest.raises(Interrupted), signals():
        with defer_signals():
            with defer_signals():
                signal.raise_signal(number)
                steps.append("inner")
            steps.append("outer")
        steps.append("never")
    assert steps == ["inner", "outer"]
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_is_not_lost_in_clean_up_that_fails(number):
    with pytest.raises(Interrupted, match=signal.Signals(number).name), signals():
        try:
            signal.raise_signal(number)
            found = 1
        finally:
            print(found)  # as OmegaConf does: UnboundLocalError


@dataclass(frozen=True, kw_only=True)
class FailsInCleanUp(Number):
    """A signal comes while it runs, and its clean-up fails."""

    def run(self, out: Path) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            raise KeyError("clean-up")


def test_a_stage_whose_clean_up_fails_after_a_signal_is_interrupted_not_failed(
    store, experiment_of
):
    with pytest.raises(Interrupted), signals():
        run(experiment_of(FailsInCleanUp(value=1)))


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_in_a_destructor_is_not_lost(number):
    class Thing:
        def __del__(self):
            signal.raise_signal(number)

    steps = []
    with pytest.raises(Interrupted), signals():
        thing = Thing()
        del thing  # Python ignores what is raised here
        steps.append("went on")
        time.sleep(60)
    assert steps == ["went on"]


@pytest.mark.parametrize("block", [signals, defer_signals])
def test_sighup_stays_ignored_under_nohup(block):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with block():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_same_signal_to_the_process_and_its_group_does_not_cut_into_the_ending():
    steps = []
    with pytest.raises(Interrupted), signals():
        try:
            signal.raise_signal(signal.SIGHUP)
        finally:
            signal.raise_signal(signal.SIGTERM)
            steps.append("ended")
    assert steps == ["ended"]


@pytest.mark.parametrize(("nohup", "status"), [(False, 130), (True, 0)])
def test_a_closed_terminal_ends_a_run_unless_under_nohup(nohup, status, tmp_path):
    write_where(tmp_path / "mine")
    jobs = ["analysis.job.value=1", "analysis.job.together=2", "tracking.enabled=false"]
    command = [sys.executable, "-m", "dtx", "run", "--config-dir", "mine", *WHERE, *jobs]
    script = "import os, signal, sys; "
    script += "signal.signal(signal.SIGHUP, signal.SIG_IGN); " * nohup
    script += "os.execv(sys.argv[1], sys.argv[1:])"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ours, theirs = pty.openpty()
    run = subprocess.Popen(  # the leader of a session, whose terminal is the first that it opens
        [sys.executable, "-c", OF_A_TERMINAL + script, *command],
        cwd=tmp_path,
        env=env,
        start_new_session=True,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    while not list(tmp_path.glob("job1.*")):
        assert run.poll() is None, os.read(ours, 10000).decode()
        time.sleep(0.05)
    os.close(ours)
    if nohup:
        time.sleep(0.5)
        assert run.poll() is None
        (tmp_path / "job2.0.json").write_text("{}")
    assert run.wait(120) == status
    assert len(list(tmp_path.glob("store/*/done.json"))) == 1 + nohup


OF_A_TERMINAL = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "


def test_a_delayed_signal_is_not_lost_when_the_block_fails():
    with pytest.raises(Interrupted) as raised, signals(), defer_signals():
        signal.raise_signal(signal.SIGTERM)
        raise ValueError("a defect")
    assert isinstance(raised.value.__context__, ValueError)


def test_what_is_committed_is_shown_before_a_signal_ends_the_run(store, experiment_of, tmp_path):
    from mlflow import MlflowClient

    stage = InterruptedWhenCommitted(value=3)
    with pytest.raises(Interrupted):
        run(experiment_of(stage, tracking=True))
    assert store.has(stage)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(uri, registry_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    shown = {r.data.tags.get("dtx.key"): r for r in runs}
    assert shown[stage.key].info.status == "FINISHED"
    assert shown[stage.key].data.metrics["toy/value"] == 3
    assert shown[None].info.status == "KILLED"


@pytest.mark.parametrize(("started", "runs"), [("experiment", 1), ("stage", 2)])
def test_a_signal_while_a_run_is_started_ends_it_as_killed(
    store, experiment_of, tmp_path, monkeypatch, started, runs
):
    from mlflow import MlflowClient

    from dtx.tracking.server import Server

    start = Server.start

    def interrupted(self, name, tags, parent=None, *more):
        found = start(self, name, tags, parent, *more)
        if started == ("stage" if parent else "experiment"):
            signal.raise_signal(signal.SIGTERM)
        return found

    monkeypatch.setattr(Server, "start", interrupted)
    with pytest.raises(Interrupted):
        run(experiment_of(Number(value=4), tracking=True))
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(uri, registry_uri=uri)
    found = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    assert [r.info.status for r in found] == ["KILLED"] * runs
