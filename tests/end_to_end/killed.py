"""Kill a command at a chosen change of the file system, repeat it, and compare with what no kill touched."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

IMPORTED = [
    *("torch", "pandas", "matplotlib.pyplot", "h5py", "minari", "minigrid", "transformer_lens"),
    *("stable_baselines3", "sb3_contrib", "dtx.cli", "dtx.running.runner", "dtx.exchange.export"),
    *("dtx.dataset.minari.write", "dtx.agent.sb3.policy", "dtx.config.compose"),
]
"""Modules of the process that the killed ones are forked from."""
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink")


@dataclass(frozen=True)
class Attempt:
    """One start of a command.

    Attributes:
        status: Its exit status; -9 if it was killed.
        changes: How many changes it made in its folder, each counted before it is made.
        said: What it printed.
        seconds: How long it took, without imports.
    """

    status: int
    changes: int
    said: str
    seconds: float


def give(
    folder: Path, command: Sequence[str], at: int | None = None, after: float = 300.0
) -> Attempt:
    """Give a command in ``folder``; SIGKILL just before its change number ``at``, or after some seconds.

    Changes are openings of files for writing, new and removed folders, renames, removals, below ``folder``.
    Those of libraries in C are not seen, but what is around them is.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    said, counted = folder.parent / "said.txt", folder.parent / "counted.txt"
    process = context.Process(target=_child, args=(folder, said, counted, list(command), at))
    began = time.monotonic()
    process.start()
    process.join(after)
    process.kill()
    process.join()
    count = counted.stat().st_size if counted.exists() else 0
    words = said.read_text() if said.exists() else ""
    return Attempt(process.exitcode or 0, count, words, time.monotonic() - began)


def _child(folder: Path, said: Path, counted: Path, command: list[str], at: int | None) -> None:
    from dtx.cli import main

    os.chdir(folder)
    words = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(words, 1)
    os.dup2(words, 2)
    count = os.open(counted, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    made = 0

    def hook(event: str, args: tuple) -> None:
        nonlocal made
        changes = event in CHANGES
        if event == "open":
            _, mode, flags = args
            changes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) and mode is not None
        if not changes or not isinstance(args[0], str | bytes | os.PathLike):
            return
        path = os.path.abspath(os.fsdecode(args[0]))  # noqa: PTH100  # a Path would raise more events
        if not path.startswith(f"{folder}{os.sep}"):
            return
        if made == at:
            os.kill(os.getpid(), signal.SIGKILL)
        made += 1
        os.write(count, b".")

    sys.addaudithook(hook)
    sys.exit(main(command))


def spread(count: int, kills: int) -> list[int]:
    """``kills`` numbers below ``count``, from the first to the last."""
    kills = min(kills, count)
    return sorted({round(i * (count - 1) / max(kills - 1, 1)) for i in range(kills)})


def content(folder: Path, without: Iterable[str] = ()) -> dict[str, bytes]:
    """Bytes of all files below a folder by name, hidden ones too; not of those with a name in ``without``."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and not set(path.parts) & set(without)
    }
