"""Processes that train together: what they say, and how they end."""

import errno
import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch

import dtx.dt.training.train  # noqa: F401  the ranks' server imports this module, and with it all they need
from dtx.errors import Interrupted, UserError
from dtx.progress import read_progress, report_to
from dtx.running.provenance import cpu_seconds, own_cpu_seconds
from dtx.running.signals import signals
from dtx.store import store as stores
from dtx.training.ranks import train_together

ROOT = Path(__file__).parents[2]


def meet(rank, out: Path) -> None:
    total = torch.tensor([rank.number + 1.0])
    torch.distributed.all_reduce(total)
    text = f"{rank.count} {total.item():.0f} {rank.first} {stores.current().root}"
    (out / f"rank-{rank.number}.txt").write_text(text)


def move(rank, out: Path) -> None:
    with rank.progress("toy", 10, "things") as bar:
        for done in range(11):
            bar.move_to(done, f"note {done}")
            time.sleep(0.11)


def fail(rank, kind: str) -> None:
    if rank.number == 1:
        if kind == "user":
            raise UserError("dt.windows: what is wrong")
        if kind == "disk":
            raise OSError(errno.ENOSPC, "No space left on device", "/some/file")
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "exit":
            os._exit(3)
        raise ZeroDivisionError("a defect")
    torch.distributed.barrier()


def wait_for_ever(rank, out: Path) -> None:
    (out / f"{os.getpid()}.pid").touch()
    if rank.number == 1:
        time.sleep(600)
    torch.distributed.barrier()


def pids(folder: Path) -> list[int]:
    return [int(path.stem) for path in folder.glob("*.pid")]


def wait_until(condition) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_ranks_meet_and_know_the_store(tmp_path, store):
    before, own = cpu_seconds(), own_cpu_seconds()
    train_together(3, "gloo", meet, tmp_path)
    assert cpu_seconds() - before > own_cpu_seconds() - own  # the ranks' time counts
    told = [(tmp_path / f"rank-{n}.txt").read_text() for n in range(3)]
    assert told == [f"3 6 {n == 0} {store.root}" for n in range(3)]


def test_rank_0_moves_the_bar_of_the_parent(tmp_path, monkeypatch):
    monkeypatch.setattr("dtx.progress._WRITE_EVERY", 0.0)
    with report_to(tmp_path):
        train_together(2, "gloo", move, tmp_path)
    seen = read_progress(tmp_path)
    assert seen is not None and seen["total"] == 10 and seen["unit"] == "things"
    assert seen["done"] >= 9 and seen["note"] == f"note {seen['done']:.0f}"


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("user", UserError, r"^dt\.windows: what is wrong$"),
        ("disk", OSError, "No space left on device.*/some/file"),
        ("kill", UserError, r"process 2 of 2 was killed \(SIGKILL\).*memory.*last checkpoint"),
        ("exit", UserError, "process 2 of 2 ended with status 3"),
        ("defect", RuntimeError, "(?s)process 2 of 2 failed.*in fail.*ZeroDivisionError: a defect"),
    ],
)
def test_the_cause_of_a_failure_is_told_not_what_follows_from_it(kind, error, words):
    with pytest.raises(error, match=words) as caught:
        train_together(2, "gloo", fail, kind)
    if kind == "disk":
        assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_ranks_and_interrupts(number, tmp_path):
    def interrupt() -> None:
        wait_until(lambda: len(pids(tmp_path)) == 2)
        for pid in pids(tmp_path):  # as Ctrl-C in a terminal does; they leave it to their parent
            os.kill(pid, number)
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt).start()
    with signals(), pytest.raises(Interrupted, match=number.name):
        train_together(2, "gloo", wait_for_ever, tmp_path)
    assert not any(map(psutil.pid_exists, pids(tmp_path)))


def test_ranks_end_when_their_parent_is_killed(tmp_path):
    waiting = inspect.getsource(wait_for_ever)
    (tmp_path / "waiting.py").write_text(
        f"import os, time, torch\nfrom pathlib import Path\n{waiting}"
    )
    script = "import sys, waiting; from pathlib import Path; from dtx.training.ranks import train_together; "
    script += "train_together(2, 'gloo', waiting.wait_for_ever, Path(sys.argv[1]))"
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], env=env)
    wait_until(lambda: len(pids(tmp_path)) == 2 or parent.poll() is not None)
    started = [psutil.Process(pid) for pid in pids(tmp_path)]
    assert len(started) == 2
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(started, timeout=30)
    assert not alive
