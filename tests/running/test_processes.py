"""Marks of processes that were killed while they tracked a run."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dtx.running.processes import alive, killed_before, marked, process_tags


def test_a_killed_process_is_listed_until_its_runs_are_settled(store):
    host = process_tags()["dtx.host"]
    with marked(store.root):
        mark = store.root / ".tracking" / f"{host}+999999999+1"
        mark.touch()
        (mark.parent / "elsewhere+999999999+1").touch()
        assert (
            killed_before(store.root) == killed_before(store.root) == [mark]
        )  # asking forgets nothing
    mark.unlink()
    assert killed_before(store.root) == []


WORKER = """
import subprocess, sys, time
from dtx.running.processes import end_with
end_with(sys.argv[1])
below = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(below.pid, flush=True)
time.sleep(600)
"""
PARENT = """
import subprocess, sys, time
from dtx.running.processes import process_tags
command = [sys.executable, "-c", sys.argv[1], process_tags()["dtx.process"]]
between = "import subprocess, sys; subprocess.run(sys.argv[1:])"  # as submitit's controller
worker = subprocess.Popen([sys.executable, "-c", between, *command])
time.sleep(600)
"""


@pytest.mark.parametrize("collected", [True, False])
def test_a_worker_ends_with_what_it_started_when_a_process_above_it_is_killed(collected):
    root = Path(__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, WORKER], cwd=root, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    below = psutil.Process(int(parent.stdout.readline()))
    workers = [below, *below.parents()[:2]]
    parent.kill()
    if collected:
        parent.wait()
    try:
        assert not psutil.wait_procs(workers, timeout=60)[1]
    finally:
        parent.wait()
        parent.stdout.close()


def test_a_worker_of_a_process_that_is_dead_already_ends_too():
    code = "import time; from dtx.running.processes import end_with; end_with('999999999:1'); time.sleep(600)"
    worker = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], timeout=60)
    assert worker.returncode == -9


def test_a_process_that_only_waits_to_be_collected_is_not_alive():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    tag = f"{ended.pid}:{psutil.Process(ended.pid).create_time():.0f}"
    while psutil.Process(ended.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    assert not alive(tag) and alive(process_tags()["dtx.process"])
    ended.wait()
