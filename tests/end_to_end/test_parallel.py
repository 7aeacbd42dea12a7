"""Eight processes that need the same agent, on a fresh store and a fresh MLflow database."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.chaos import ROOT, artefacts, leftovers, untracked
from tests.fast import FAST

pytestmark = pytest.mark.slow

AGENT = [*FAST, "agent.frames=65536", "agent.checkpoint_every=8"]
"""Long enough that the others have to wait for it."""
EIGHT = [["target=agent"]] * 4 + [["target=dataset", f"dataset.seed={i}"] for i in range(4)]
"""What each of the processes wants: some only the agent, some each their own demonstrations of it."""
WAITING = re.compile(r"waiting for (ppo-[0-9a-f]{16}): process (\d+) on \S+ \(since [\d:]+\)")


class Job:
    """A running ``dtx run`` whose words can be read at any time."""

    def __init__(self, folder: Path, words: Path, overrides: list[str]):
        self.words = words
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }
        with words.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dtx", "run", *AGENT, *overrides],
                cwd=folder,
                env=environment,
                stdout=out,
                stderr=out,
            )

    @property
    def said(self) -> str:
        return self.words.read_text()

    @property
    def waits_for(self) -> int | None:
        """Number of the process that it says it waits for."""
        found = WAITING.findall(self.said)
        return int(found[-1][1]) if found else None

    def at_work(self) -> bool:
        """Whether it has begun with the agent, or gone on with it."""
        return bool(
            re.search(
                r"^1 of \d+ agent \(ppo-[0-9a-f]{16}\) (starts|goes on)", self.said, re.MULTILINE
            )
        )


@contextmanager
def eight(place: Path) -> Iterator[tuple[Path, list[Job]]]:
    """Start all at once; none outlives the block."""
    folder = place / "work"
    folder.mkdir()
    jobs = [Job(folder, place / f"{i}.txt", wanted) for i, wanted in enumerate(EIGHT)]
    try:
        yield folder, jobs
    finally:
        for job in jobs:
            job.process.kill()
            job.process.wait()


LOOPS = [
    ["gc", "--delete"],
    ["gc", "--delete", "--older", "0"],
    ["invalidate", "ppo"],
    ["invalidate", "roll"],
]
"""What others do to the store meanwhile, again and again."""


@contextmanager
def disturbed(folder: Path, words: Path) -> Iterator[list[int]]:
    """Give each command of ``LOOPS`` in a loop of its own; the list gets their exit statuses."""
    stop, statuses = threading.Event(), []
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def repeat(arguments: list[str]) -> None:
        while not stop.is_set():
            with words.open("a") as out:
                done = subprocess.run(
                    [sys.executable, "-m", "dtx", *arguments],
                    cwd=folder,
                    env=environment,
                    stdout=out,
                    stderr=out,
                )
            statuses.append(done.returncode)

    loops = [threading.Thread(target=repeat, args=(arguments,)) for arguments in LOOPS]
    for loop in loops:
        loop.start()
    try:
        yield statuses
    finally:
        stop.set()
        for loop in loops:
            loop.join()


def until(condition, jobs: list[Job], seconds: float = 300) -> None:
    """Wait for a condition; a process that fails or a long time ends the wait."""
    end = time.monotonic() + seconds
    while not condition():
        for job in jobs:
            assert job.process.poll() in (None, 0, -signal.SIGKILL), job.said
        assert time.monotonic() < end, [job.said for job in jobs]
        time.sleep(0.1)


def statuses(jobs: list[Job]) -> list[int]:
    for job in jobs:
        job.process.wait(300)
    return [job.process.returncode for job in jobs]


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> tuple[Path, list[Job]]:
    """A folder in which eight processes worked at once, and what they said."""
    with eight(tmp_path_factory.mktemp("together")) as (folder, jobs):
        assert statuses(jobs) == [0] * 8, [j.said for j in jobs]
    return folder, jobs


def test_one_of_eight_trains_and_all_succeed(together):
    folder, jobs = together
    assert [job.at_work() for job in jobs].count(True) == 1
    assert len(list((folder / "store").glob("ppo-*"))) == 1
    assert len(list((folder / "store").glob("rollouts-*"))) == 4
    assert not [job.said for job in jobs if "Traceback" in job.said]
    assert not leftovers(folder) and not untracked(folder, complete=True)


def test_who_waits_says_for_what_and_on_whom(together):
    _, jobs = together
    worker = next(job for job in jobs if job.at_work())
    waiting = [job for job in jobs if job.waits_for]
    assert len(waiting) == 7
    assert {job.waits_for for job in waiting} == {worker.process.pid}


def test_a_waiting_process_takes_over_from_a_killed_one(together, tmp_path):
    with eight(tmp_path) as (folder, jobs):
        until(lambda: sum(job.waits_for is not None for job in jobs) == 7, jobs)
        killed = next(job for job in jobs if job.at_work())
        until(lambda: list((folder / "store" / ".work").glob("ppo-*/resume.ckpt")), jobs)
        killed.process.kill()
        others = [job for job in jobs if job is not killed]
        assert statuses(others) == [0] * 7, [j.said for j in others]
        assert killed.process.wait() == -signal.SIGKILL
    successor = [job for job in others if job.at_work()]
    assert len(successor) == 1
    assert re.search(
        r"^1 of \d+ agent \(ppo-[0-9a-f]{16}\) goes on", successor[0].said, re.MULTILINE
    )
    assert {job.waits_for for job in others if job is not successor[0]} <= {
        killed.process.pid,
        successor[0].process.pid,
    }
    same = artefacts(together[0])
    found = artefacts(folder)
    agent = {name for name in same if name.startswith("ppo-")}
    assert len(agent) >= 3 and all(found[name] == same[name] for name in agent)
    assert not leftovers(folder)
    again = Job(folder, tmp_path / "again.txt", ["target=agent"])
    assert statuses([again]) == [0], again.said  # a start after the kill settles the killed runs
    assert not untracked(folder, complete=False)


def test_eight_succeed_beside_loops_of_gc_and_invalidate(tmp_path):
    words = tmp_path / "loops.txt"
    with eight(tmp_path) as (folder, jobs), disturbed(folder, words) as others:
        assert statuses(jobs) == [0] * 8, [j.said for j in jobs]
    assert not [job.said for job in jobs if "Traceback" in job.said]
    assert "Traceback" not in words.read_text()
    assert set(others) <= {0, 2} and others.count(0) >= len(
        LOOPS
    )  # 2: nothing to set aside, or it is in use
    assert not leftovers(folder) and not untracked(folder, complete=False)
