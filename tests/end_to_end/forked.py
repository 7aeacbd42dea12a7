"""Commands of dtx in processes forked from one that has imported everything: what is tried is work."""

from __future__ import annotations

import importlib
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.end_to_end.chaos import IMPORTED

T = TypeVar("T")


def prepare() -> None:
    """Import what commands import. For a process that uses no threads of torch: such a one cannot fork."""
    os.environ.update(OMP_NUM_THREADS="1", COLUMNS="200")
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    for name in IMPORTED:
        importlib.import_module(name)


@dataclass
class Forked:
    """A running or ended command, with the methods of ``subprocess.Popen`` that are needed.

    Attributes:
        returncode: As of ``Popen``: negative for a signal; None while it runs.
        used: What it used, once it has ended.
    """

    pid: int
    returncode: int | None = None
    used: resource.struct_rusage | None = None

    def poll(self) -> int | None:
        """The exit status, if it has ended."""
        if self.returncode is None:
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.returncode, self.used = os.waitstatus_to_exitcode(status), used
        return self.returncode

    def wait(self, seconds: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: It has not ended by then.
        """
        end = None if seconds is None else time.monotonic() + seconds
        while (status := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("dtx", seconds or 0.0)
            time.sleep(0.002)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


def start(
    arguments: Sequence[str], here: Path, said: Path, first: Callable[[], object] = lambda: None
) -> Forked:
    """Give ``dtx`` in a folder, with its words in a file.

    Args:
        first: Called in the new process before the command.
    """
    pid = os.fork()
    if pid == 0:
        _command(list(arguments), here, said, first)
    return Forked(pid)


def apart(function: Callable[..., T], *arguments: Any) -> T:
    """What a function gives, called in another process: libraries keep what they open, and forks share it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with os.fdopen(writer, "wb") as pipe:
                pickle.dump(function(*arguments), pipe)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        given = pipe.read()
    os.waitpid(pid, 0)
    return pickle.loads(given)


def _command(arguments: list[str], here: Path, said: Path, first: Callable[[], object]) -> None:
    """The forked process; never returns."""
    status = 1
    try:
        os.setsid()
        os.chdir(here)
        os.environ["HOME"] = str(here)
        words = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(words, 1)
        os.dup2(words, 2)
        first()
        from dtx.cli import main

        try:
            status = main(arguments)
        except SystemExit as end:  # argparse
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)
