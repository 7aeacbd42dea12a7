"""Give dtx what is wrong: overrides, command lines, damaged files. Each ends with a result or a clear line.

    python -m tests.end_to_end.fuzz --overrides 2000 --lines 500 --files 500

Of every command: no traceback, no signal, an exit status that says something only with a line that says
more, no ten seconds, no gigabyte. The commands are forked from one process that has imported everything, so
that what is measured is the command. Prints the counts, and each case that is wrong with what it takes to
do it again (``--only KIND:NUMBER``).
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.end_to_end import forked, fuzz_files, fuzz_lines, material, record

SECONDS, MEGABYTES = 10.0, 1000
"""What no command may take, beside what the imports do: of CPU time, as other processes may be at work; by
the clock three times as long."""
STATUSES = {0, 1, 2}
KINDS: dict[str, Callable[[random.Random, Path], tuple[str, list[str]]]] = {
    "overrides": fuzz_lines.overridden,
    "lines": fuzz_lines.of_a_verb,
    "files": fuzz_files.damaged,
}
"""Each makes one case in a folder: what was done, in words, and a command line."""


@dataclass
class Outcome:
    """What one command did."""

    kind: str
    number: int
    done: str
    arguments: list[str]
    status: int
    said: str
    seconds: float
    cpu_seconds: float
    megabytes: float

    @property
    def wrong(self) -> str:
        """What is wrong with it; empty if it is as it must be."""
        if "Traceback" in self.said:
            return "a traceback"
        if self.cpu_seconds > SECONDS:
            return f"{self.cpu_seconds:.0f} s of CPU time"
        if self.seconds >= 3 * SECONDS:
            return f"{self.seconds:.0f} s"
        if self.megabytes > MEGABYTES:
            return f"{self.megabytes:.0f} MB"
        if self.status not in STATUSES:
            return f"status {self.status}"
        if self.status and not self.said.strip():
            return f"status {self.status} without a word"
        return ""

    def __str__(self) -> str:
        words = " ".join(self.arguments)[:300]
        return (
            f"{self.kind}:{self.number}: {self.wrong}\n  {self.done}\n  dtx {words!r}\n"
            + "".join(f"  | {line[:300]}\n" for line in self.said.splitlines()[-25:])
        )


def outcome(kind: str, number: int, seed: int, folder: Path, place: Path) -> Outcome:
    """Make one case in a copy of ``folder`` below ``place``, and give its command."""
    chance = random.Random(f"{kind}:{number}:{seed}")
    here = material.copy(folder, place / "a" / "b" / "c" / "here")  # ../../.. is still ours
    try:
        done, arguments = KINDS[kind](chance, here)
        return _given(kind, number, done, arguments, here)
    finally:
        _removed(here)


def _given(kind: str, number: int, done: str, arguments: list[str], here: Path) -> Outcome:
    said, began = here.parents[3] / "said.txt", time.monotonic()
    before = psutil.Process().memory_info().rss
    # Longer than it may take, so that it is seen what it does then.
    command = forked.start(arguments, here, said, _tell_where_it_is)
    try:
        command.wait(3 * SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(command.pid, signal.SIGKILL)
        command.wait()
    used = command.used
    assert used is not None
    return Outcome(
        kind,
        number,
        done,
        arguments,
        command.wait(),
        said.read_text(errors="replace"),
        time.monotonic() - began,
        used.ru_utime + used.ru_stime,
        used.ru_maxrss / 1024 - before / 1024**2,
    )


def _tell_where_it_is() -> None:
    """If a command takes long, have it say where it is."""
    faulthandler.dump_traceback_later(2 * SECONDS, file=2)


def _removed(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder)


def outcomes(
    wanted: dict[str, list[int]], seed: int, place: Path, folder: Path | None
) -> Iterator[Outcome]:
    """All outcomes, in order; ``folder`` is the material if it is there already."""
    if folder is None:
        folder = place / "material"
        # In another process: one that has used threads of torch must not fork.
        subprocess.run([sys.executable, "-m", "tests.end_to_end.material", str(folder)], check=True)
    forked.prepare()
    for kind, numbers in wanted.items():
        for number in numbers:
            yield outcome(kind, number, seed, folder, place)


def main() -> int:
    """Run from the command line and print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    for kind in KINDS:
        parser.add_argument(f"--{kind}", type=int, default=0, metavar="COUNT")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from", dest="first", type=int, default=0, help="number of the first")
    parser.add_argument("--material", type=Path, help="made by tests.end_to_end.material")
    parser.add_argument("--record", type=Path, help="file for the counts")
    parser.add_argument("--only", metavar="KIND:NUMBER", help="one case, with all that it says")
    chosen = parser.parse_args()
    wanted = {k: list(range(chosen.first, chosen.first + getattr(chosen, k))) for k in KINDS}
    if chosen.only:
        kind, _, number = chosen.only.partition(":")
        wanted = {kind: [int(number)]}
    began, wrong, all_of_them = time.monotonic(), [], []
    counts: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        for one in outcomes(wanted, chosen.seed, Path(place), chosen.material):
            all_of_them.append(one)
            if one.wrong or chosen.only:
                wrong += [one] if one.wrong else []
                print(one, flush=True)
    for kind in wanted:
        mine = [o for o in all_of_them if o.kind == kind]
        if mine:
            counts[kind] = {
                "commands": len(mine),
                "wrong": sum(bool(o.wrong) for o in mine),
                "statuses": dict(sorted(Counter(str(o.status) for o in mine).items())),
                "most_seconds": round(max(o.seconds for o in mine), 1),
                "most_cpu_seconds": round(max(o.cpu_seconds for o in mine), 1),
                "most_megabytes_more": round(max(o.megabytes for o in mine)),
            }
            print(f"{kind}: " + ", ".join(f"{k} {v}" for k, v in counts[kind].items()))
    if chosen.record:
        record.write(chosen.record, {"seed": chosen.seed, **counts})
    print(f"time: {(time.monotonic() - began) / 60:.1f} minutes")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
