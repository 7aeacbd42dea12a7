"""Harm every verb, what it works with and what it has started; then the same command must bring it right.

    python -m tests.end_to_end.chaos_verbs --events 200

An event: a copy of one folder (see material.py), a command in it, harm at a random moment (the command or a
worker is killed, its terminal closes, the disk is full, the database is locked or deleted, unfinished work is
damaged), the same command again. Then the files must be those of a folder in which the command ran without
harm, nothing may be left over, no run of MLflow RUNNING, and no process left.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.end_to_end import material, record
from tests.end_to_end.chaos_checks import leftovers, untracked
from tests.end_to_end.chaos_harm import ALL, HARM, Scene, disk_of, possible
from tests.end_to_end.forked import Forked, apart, prepare, start
from tests.fast import FAST

PATIENCE = 300.0
LETS_GO = 15.0
"""Seconds in which processes end after their parent."""
RUN = ["run", *FAST]
MORE = [*RUN, "agent.frames=6144", "dataset.seed=7", "dt.steps=60", "target=dt"]
"""Stages that the folder does not have yet, of some seconds each."""
SWEEP = ["run", "-m", *FAST, "target=dt", "dt.seed=5,6", "dt.steps=60"]
TASK = ["env=minigrid", "env.id=MiniGrid-Empty-5x5-v0"]


def _emptied(*names: str) -> Callable[[Path], None]:
    def empty(here: Path) -> None:
        for name in names:
            shutil.rmtree(here / name)
            (here / name).mkdir()

    return empty


def _nothing(here: Path) -> None:
    """The folder is as it is."""


COMMANDS: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "run": (_nothing, MORE),
    "import model": (_nothing, ["import", "handed", "--as", "theirs"]),
    "import policy": (_nothing, ["import", "teacher.zip", *TASK]),
    "export model": (_nothing, ["export", "shuffled_reward_to_go", "out"]),
    "export dataset": (_nothing, ["export", "rollouts", "sets", "--as", "fuzz/again-v0"]),
    "gc": (_emptied("store/.runs"), ["gc", "--delete", "--older", "0"]),
    "invalidate": (_nothing, ["invalidate", "calibration"]),
    "push": (_emptied("remote"), [*RUN, "store.remote=remote"]),
    "pull": (_emptied("store"), [*RUN, "store.remote=remote"]),
    "redraw": (_nothing, ["redraw", *FAST]),
    "compare": (
        _nothing,
        ["compare", "-m", *FAST, "target=dt", "dt.seed=0,1", "--out", "compared"],
    ),
    "cp": (_nothing, ["cp", "agent/ppo", "more", "--as", "own"]),
    "track": (lambda here: (here / "mlflow.db").unlink(), ["track"]),
    "sweep": (_nothing, SWEEP),
    "joblib": (_nothing, [*SWEEP, "hydra/launcher=joblib"]),
    "submitit": (_nothing, [*SWEEP, "hydra/launcher=submitit_local"]),
}
"""What is done to the folder before, and the command."""
DONE_BEFORE = {"invalidate": "nothing in .* starts with"}
"""Where a command that was killed late had done all: what it says then, with status 2."""


# --- the folder as it is ----------------------------------------------------------------------------------

_OTHERS = {"mlflow.db", "mlartifacts", "multirun", "outputs", "mlflow.db.lock"}
_DATED = re.compile(r"(\.invalid/[\w-]+)\.\d+")


def state(here: Path) -> dict[str, str]:
    """SHA-256 of every file by name, without dates, speeds and what MLflow keeps."""
    found = {}
    for path in sorted(here.rglob("*")):
        name = _DATED.sub(r"\1", str(path.relative_to(here)))
        top, *below = Path(name).parts
        if path.is_dir() or top in _OTHERS or (top == "store" and below[0] in _KEPT_BY_PROCESSES):
            continue
        dated = path.name in ("done.json", "timing.jsonl") or (top == "remote" and len(below) == 1)
        dated = dated or below[:1] == [".runs"]
        found[name] = "" if dated else hashlib.sha256(path.read_bytes()).hexdigest()
    return found


_KEPT_BY_PROCESSES = {".locks", ".needed", ".tracking"}


def processes_in(place: Path) -> list[psutil.Process]:
    """Processes whose working directory is below ``place``."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and Path(process.cwd()).is_relative_to(place):
                found.append(process)
    return found


def give(here: Path, arguments: list[str]) -> Forked:
    """Start the command; its words go to a file beside the folder."""
    return start(arguments, here, here.parent / "said.txt")


# --- one event -------------------------------------------------------------------------------------------


@dataclass
class Event:
    """What was done and what was wrong afterwards."""

    harm: str
    command: str
    happened: bool
    status: int
    problems: list[str]
    compared: int


@dataclass
class Reference:
    """What an undisturbed command leaves, and how long it takes."""

    files: dict[str, str]
    seconds: float


def reference(folder: Path, place: Path, command: str) -> Reference:
    """Give a command without harm."""
    make_ready, arguments = COMMANDS[command]
    here = material.copy(folder, place / "here")
    try:
        make_ready(here)
        began = time.monotonic()
        process = give(here, arguments)
        if process.wait(PATIENCE):
            raise RuntimeError(f"{command}, undisturbed:\n{(place / 'said.txt').read_text()}")
        return Reference(state(here), time.monotonic() - began)
    finally:
        shutil.rmtree(here)


def event(
    folder: Path, place: Path, harm: str, command: str, expected: Reference, chance: random.Random
) -> Event:
    """Harm a command, give it again and compare."""
    make_ready, arguments = COMMANDS[command]
    here, problems = place / "here", []
    with disk_of(here, harm) as resize:
        try:
            make_ready(material.copy(folder, here))
            resize(chance.choice([10**4, 10**5, 10**6, 5 * 10**6]))
            known = {p.name for p in (here / "store").glob(".work/*")}
            process = give(here, arguments)
            happened = HARM[harm][0](Scene(here, process, chance, expected.seconds, known))
            status = _ended(process, problems)
            said = (place / "said.txt").read_text()
            if "Traceback" in said:
                problems.append(f"a traceback:\n{said}")
            problems += [f"left alive: {p}" for p in _left(here)]
            resize(None)
            # If all was computed, what MLflow lacks comes with the next command.
            if status or harm.startswith("database"):
                again = give(here, arguments)
                if _ended(again, problems):
                    said = (place / "said.txt").read_text()
                    if not re.search(DONE_BEFORE.get(command, "(?!)"), said):
                        problems.append(f"again: status {again.returncode}:\n{said}")
            problems += _differences(expected.files, state(here))
            problems += [p for p in leftovers(here) if p not in leftovers(folder)]
            problems += apart(_still_running, here)
            return Event(harm, command, happened, status, problems, len(expected.files))
        finally:
            for process in processes_in(place):
                process.kill()
            shutil.rmtree(here, ignore_errors=True)


def _still_running(here: Path) -> list[str]:
    return untracked(here, complete=False)


def _ended(process: Forked, problems: list[str]) -> int:
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        problems.append("stuck")
        process.kill()
        return process.wait()


def _left(here: Path) -> list[str]:
    """Processes that do not end with the command."""
    deadline = time.monotonic() + LETS_GO
    while (left := processes_in(here)) and time.monotonic() < deadline:
        time.sleep(0.1)
    found = []
    for process in left:
        with contextlib.suppress(psutil.Error):
            found.append(" ".join(process.cmdline())[:200])
    return found


def _differences(reference: dict[str, str], found: dict[str, str]) -> list[str]:
    return [
        f"{name}: {'missing' if name not in found else 'too many' if name not in reference else 'differs'}"
        for name in sorted(reference.keys() | found.keys())
        if reference.get(name) != found.get(name)
    ]


# --- all of it ---------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """All events."""

    events: list[Event] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def wrong(self) -> list[Event]:
        """Those after which something was wrong."""
        return [e for e in self.events if e.problems]

    def lines(self) -> list[str]:
        """The counts, for the reader."""
        happened = [e for e in self.events if e.happened]
        kinds = Counter((e.harm, e.command) for e in happened)
        lines = [
            f"events: {len(happened)} (and {len(self.events) - len(happened)} commands had ended before)",
            *(f"  {harm}, {command}: {n}" for (harm, command), n in sorted(kinds.items())),
            f"files compared: {sum(e.compared for e in self.events)}; "
            f"events after which something was wrong: {len(self.wrong)}",
        ]
        for e in self.wrong:
            lines += [f"  {e.harm}, {e.command} (status {e.status}):"]
            lines += [f"    {line}" for p in e.problems[:8] for line in p.splitlines()[-12:]]
        return [*lines, f"time: {self.seconds / 60:.1f} minutes"]

    def counts(self) -> dict[str, Any]:
        """The same as values."""
        happened = Counter(f"{e.harm}, {e.command}" for e in self.events if e.happened)
        return {
            "events": sum(happened.values()),
            "files_compared": sum(e.compared for e in self.events),
            "wrong": len(self.wrong),
            "of_each": dict(sorted(happened.items())),
        }


def plan(chance: random.Random) -> Iterator[tuple[str, str]]:
    """Every kind of harm to every command that it is for, again and again in another order."""
    while True:
        pairs = [
            (harm, command)
            for harm, (_, commands) in HARM.items()
            if possible(harm)
            for command in (COMMANDS if commands is ALL else commands)
        ]
        chance.shuffle(pairs)
        yield from pairs


def chaos(
    place: Path,
    folder: Path,
    events: int,
    seed: int,
    only: Callable[[str, str], bool] = lambda harm, command: True,
    tell: Callable[[str], object] = lambda line: None,
) -> Tally:
    """Let ``events`` events happen below ``place``, each in a copy of ``folder``."""
    chance, tally, began = random.Random(seed), Tally(), time.monotonic()
    known: dict[str, Reference] = {}
    for harm, command in plan(chance):
        if sum(e.happened for e in tally.events) >= events:
            break
        if not only(harm, command):
            continue
        if command not in known:
            known[command] = reference(folder, place, command)
        one = event(folder, place, harm, command, known[command], chance)
        tally.events.append(one)
        wrong = f": {one.problems}" if one.problems else ""
        tell(
            f"{harm}, {command}, status {one.status}{'' if one.happened else ', before it'}{wrong}"
        )
    tally.seconds = time.monotonic() - began
    return tally


def main(words: Sequence[str] | None = None) -> int:
    """Run from the command line, or with these words, and print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path, help="file for the counts")
    parser.add_argument("--harm", default="", help="only this kind")
    parser.add_argument("--command", nargs="*", default=(), help="only to these commands")
    parser.add_argument("--material", type=Path, help="made by tests.end_to_end.material")
    chosen = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="chaos-") as place:
        folder = chosen.material
        if folder is None:
            folder = Path(place) / "material"
            command = [sys.executable, "-m", "tests.end_to_end.material", str(folder)]
            subprocess.run(command, cwd=material.ROOT, check=True)
        prepare()
        tally = chaos(
            Path(place),
            folder,
            chosen.events,
            chosen.seed,
            lambda harm, command: (
                chosen.harm in ("", harm) and (not chosen.command or command in chosen.command)
            ),
            tell=lambda line: print(line, flush=True),
        )
    print("\n".join(tally.lines()), flush=True)
    if chosen.record:
        record.write(chosen.record, {"seed": chosen.seed, **tally.counts()})
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
