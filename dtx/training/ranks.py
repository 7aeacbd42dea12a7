"""Data-parallel training of one stage: processes (ranks) that the stage's own process starts and watches.

Ranks start with a function and its arguments. Lightning's subprocess launcher would repeat the command line,
and rank 1 would wait for the stage's lock for ever; its spawn launcher would pickle the data. Rank 0 writes
all files, so only progress and errors are sent back. Only the stage's process handles signals: it kills the
ranks, whose files stay valid whenever they are killed. Ranks end by themselves when their parent has died.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from dtx.errors import UserError
from dtx.progress import Bar, progress
from dtx.running.provenance import add_rank, own_cpu_seconds, peak_memory_mb
from dtx.running.signals import NUMBERS
from dtx.store import store as stores

GRACE = 5.0
"""Seconds to wait for the errors of other ranks after a failure; the earliest error is raised."""


@dataclass(frozen=True)
class Rank:
    """One of ``count`` processes that train together; alone by default.

    Attributes:
        parent: Where progress and errors are sent; None for a process that is alone.
    """

    number: int = 0
    count: int = 1
    parent: Connection | None = None

    @property
    def alone(self) -> bool:
        """Whether this is the stage's own process."""
        return self.parent is None

    @property
    def first(self) -> bool:
        """Whether this process writes files."""
        return self.number == 0

    @contextlib.contextmanager
    def progress(self, name: str, total: float, unit: str) -> Iterator[Bar | SentBar]:
        """The stage's bar: in this process if it is alone, else rank 0 moves that of the parent."""
        if self.parent is None:
            with progress(name, total, unit) as bar:
                yield bar
            return
        if self.first:
            self.parent.send(("bar", (name, total, unit)))
        yield SentBar(self.parent if self.first else None)


ALONE = Rank()


class SentBar:
    """A bar that another process shows, or none; it is moved at most ten times a second."""

    def __init__(self, parent: Connection | None):
        self._parent, self._sent = parent, 0.0

    def move_to(self, done: float, note: str = "") -> None:
        """Set the amount done."""
        if self._parent is not None and time.monotonic() - self._sent > 0.1:
            self._sent = time.monotonic()
            self._parent.send(("move", (done, note)))


def train_together(count: int, backend: str, function: Callable, *arguments: Any) -> None:
    """Call ``function(rank, *arguments)`` in ``count`` new processes and wait for all of them.

    Args:
        backend: torch.distributed's: ``gloo`` for cores, ``nccl`` for GPUs.
        function: Of an importable module. Its arguments are pickled.

    Raises:
        UserError: A rank was killed, or raised one.
        OSError: A rank met the system's error.
        RuntimeError: Any other exception in a rank, with its traceback.
    """
    if multiprocessing.get_start_method() not in multiprocessing.get_all_start_methods():
        multiprocessing.set_start_method(
            None, force=True
        )  # joblib's, which new processes do not know
    # A fork server imports the function once for all ranks. CUDA cannot be used in forked processes.
    context = (
        multiprocessing.get_context("spawn")
        if backend == "nccl"
        else multiprocessing.get_context("forkserver")
    )
    context.set_forkserver_preload([function.__module__])
    processes: list[BaseProcess] = []
    pipes: list[Connection] = []
    with tempfile.TemporaryDirectory(prefix="dtx-ranks-") as meeting:
        try:
            for number in range(count):
                receiver, sender = context.Pipe(duplex=False)
                rank = Rank(number, count, sender)
                process = context.Process(
                    target=_enter,
                    args=(rank, backend, meeting, stores.current(), function, arguments),
                    daemon=True,
                )
                processes.append(process)
                pipes.append(receiver)
                process.start()
                sender.close()  # so that the end of the rank is noticed here
            _watch(processes, pipes)
        finally:
            for process in processes:
                if process.pid is not None:
                    process.kill()
                    process.join()


def _watch(processes: list[BaseProcess], pipes: list[Connection]) -> None:
    """Show progress until all ranks are done; raise the cause if one fails."""
    running = dict(zip(pipes, range(len(pipes)), strict=True))
    failures: list[tuple[float, Exception]] = []
    deadline = None
    with contextlib.ExitStack() as shown:
        bar = None
        while running:
            left = None if deadline is None else deadline - time.monotonic()
            ready = wait(list(running), left) if left is None or left > 0 else []
            if not ready:
                break
            for pipe in [p for p in running if p in ready]:
                try:
                    kind, content = pipe.recv()
                except EOFError:
                    kind, content = "failed", (0.0, _death(processes, running[pipe]))
                if kind == "bar":
                    bar = shown.enter_context(progress(*content))
                elif kind == "move":
                    assert bar is not None
                    bar.move_to(*content)
                else:
                    del running[pipe]
                if kind == "done":
                    add_rank(*content)
                elif kind == "failed":
                    failures.append(content)
                    deadline = deadline or time.monotonic() + GRACE
    if failures:
        raise min(failures, key=lambda failure: failure[0])[1]


def _death(processes: list[BaseProcess], number: int) -> UserError:
    """The error of a rank that ended without sending one."""
    process = processes[number]
    process.join(GRACE)
    status = process.exitcode
    if status is not None and status < 0:
        ending = (
            f"was killed ({signal.Signals(-status).name}); the system does so when memory runs out: "
            "fewer trainer.devices need less"
        )
    else:
        ending = f"ended with status {status}; what it printed may say why"
    return UserError(
        f"training process {number + 1} of {len(processes)} {ending}. The same command goes on from the "
        "last checkpoint"
    )


def _enter(
    rank: Rank,
    backend: str,
    meeting: str,
    store: stores.Store,
    function: Callable,
    arguments: tuple,
) -> None:
    """Entry point of a new process: join the group, then call the function."""
    # Blocked, not ignored: Lightning installs its own handlers, which wait for the other ranks.
    signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    assert rank.parent is not None
    try:
        stores.use(store)
        _join(rank, backend, meeting)
        function(rank, *arguments)
        message = ("done", (own_cpu_seconds(), peak_memory_mb()))
    except Exception as error:
        message = ("failed", (time.monotonic(), _portable(error, rank)))
    rank.parent.send(message)


def _join(rank: Rank, backend: str, meeting: str) -> None:
    # Lightning reads these: the process is there already, on the only node.
    os.environ.update(LOCAL_RANK=str(rank.number), NODE_RANK="0")
    loopback = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    if loopback:  # a machine's name may stand for an address that it does not have
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0])
    import torch

    if backend == "nccl":
        torch.cuda.set_device(rank.number)
    # A file, because another process may take a port that is free now.
    torch.distributed.init_process_group(
        backend, init_method=f"file://{meeting}/ranks", rank=rank.number, world_size=rank.count
    )


def _end_with_parent() -> None:
    """End the process when the parent has died, whatever the main thread waits for."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)


def _portable(error: Exception, rank: Rank) -> Exception:
    """The error in a form that can be pickled and that the runner handles."""
    if isinstance(error, UserError):
        return UserError(str(error))
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, error.strerror, error.filename)
    lines = "".join(traceback.format_exception(error))
    return RuntimeError(f"training process {rank.number + 1} of {rank.count} failed:\n{lines}")
