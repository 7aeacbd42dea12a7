"""Stop a small but whole pipeline again and again, and hold what comes out against an uninterrupted run.

    python -m tests.end_to_end.chaos --kills 50            SIGKILL
    python -m tests.end_to_end.chaos --stops 30            SIGTERM and SIGINT in turns
    python -m tests.end_to_end.chaos --events 200          harm of every kind to every verb: chaos_verbs.py
    python -m tests.end_to_end.chaos --kills 20 --pipeline features    with dictionaries and their features

The same command is given again after each signal until the pipeline is complete; then a fresh pipeline
begins, until enough signals were delivered. A third of the moments are random over the whole length, the
others are aimed at short windows: while a checkpoint is written, around a commit, while results go to MLflow,
while the database is made. Takes 2 GB of memory and, on two free cores, about a quarter of a minute a signal.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.end_to_end.chaos_checks import artefacts, differences, leftovers, untracked
from tests.fast import FAST

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by those who import torch below
os.environ.pop("MLFLOW_TRACKING_URI", None)

ROOT = Path(__file__).parent.parent.parent
PIPELINE = [
    *FAST,
    "agent.frames=6144",  # 24 iterations, a checkpoint every second one
    "dataset.episodes=400",
    "dt.steps=60",
    "analysis.calibration.behaviour_clone.steps=40",
    "analysis.calibration.shuffled.steps=60",
    "analysis.calibration.episodes=20",
    "analysis.demonstrations.audited_windows=500",
]
FEATURES = [
    *FAST,
    "dataset.episodes=400",
    "activations.hooks=[blocks.0.hook_resid_post]",
    "dictionary.width=[64]",
    "dictionary.k=[2,4]",
    "dictionary.seeds=[0,1]",
    "dictionary.steps=240",
    "dictionary.batch_size=256",
    "dictionary.warm_up=10",
    "dictionary.checkpoint_every=20",
    "analysis=[features]",
]
PIPELINES = {"study": PIPELINE, "features": FEATURES}
IMPORTED = [
    *("torch", "pytorch_lightning", "mlflow", "mlflow.store.tracking.sqlalchemy_store", "pandas"),
    *("dtx.env.envpool_backend", "minigrid", "matplotlib.pyplot", "plotly", "dtx.cli"),
    *("dtx.running.runner", "dtx.tracking", "dtx.agent.ppo.train", "dtx.dataset.collect"),
    *(
        "dtx.dt.training.train",
        "dtx.analysis.calibration.compute",
        "dtx.analysis.calibration.plots",
    ),
]
"""Modules of the process that the killed ones are forked from."""
HOPELESS = 30
"""Problems after which no more are looked for."""
PATIENCE = 300.0
"""Seconds after which a process that neither ends nor reaches the moment counts as stuck."""


# --- when ----------------------------------------------------------------------------------------------


def _seen(folder: Path, *patterns: str) -> set[tuple[str, int]]:
    """Files that match, by name and inode: a file written anew is another one."""
    found = set()
    for pattern in patterns:
        for path in folder.glob(pattern):
            try:
                found.add((str(path), path.stat().st_ino))
            except OSError:  # moved meanwhile
                continue
    return found


@dataclass(frozen=True)
class Aim:
    """A window of time: it opens when a new file matches, and stays open for some seconds."""

    patterns: tuple[str, ...]
    seconds: float


AIMS = {
    "at a checkpoint": Aim(("store/.work/*/resume.*",), 0.05),
    "before a commit": Aim(("store/.work/*/headline.json",), 0.1),
    "in a commit": Aim(("store/.work/*/done.json*",), 0.01),
    "after a commit": Aim(("store/*/done.json",), 0.5),
    "as a stage starts": Aim(("store/.work/*", "store/.locks/*.holder"), 0.2),
    "making the database": Aim(("mlflow.db*",), 6.0),
}


def wait_for_moment(
    process: BaseProcess, folder: Path, chance: random.Random, length: float
) -> str:
    """Wait for a random or an aimed moment; says which, or "" if the process ended before."""
    aim = chance.choice(["any", "any", "any", *AIMS])
    if aim == "making the database" and (folder / "mlflow.db").exists():
        aim = "any"
    if aim == "any":
        # Squared: what a start has left to do is less than the whole, so early moments count for more.
        return aim if _runs_for(process, 0.2 + length * chance.random() ** 2) else ""
    window, passed = AIMS[aim], chance.randrange(3)  # let some windows of the kind pass
    known, deadline = _seen(folder, *window.patterns), time.monotonic() + PATIENCE
    while process.is_alive() and time.monotonic() < deadline:
        now = _seen(folder, *window.patterns)
        if now - known:
            passed -= 1
            if passed < 0 or aim == "making the database":
                return aim if _runs_for(process, chance.uniform(0, window.seconds)) else ""
        known |= now
        time.sleep(0.001)
    return ""


def _runs_for(process: BaseProcess, seconds: float) -> bool:
    process.join(seconds)
    return process.is_alive()


# --- one start of the command --------------------------------------------------------------------------


@dataclass
class Start:
    """One start of the command and how it ended."""

    said: str
    status: int
    signal: signal.Signals | None = None
    moment: str = ""
    stage: str = ""
    goes_on: str = ""
    seconds_to_stop: float = 0.0


def start(
    folder: Path, moment: Callable[[BaseProcess], str], number: int, arguments: Iterable[str]
) -> Start:
    """Give the command in ``folder``; send the signal when ``moment`` says so (empty: the process ended).

    The process is forked from one that has imported everything: what is killed is work, not imports.
    """
    said = folder.parent / "said.txt"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    process = context.Process(target=_command, args=(folder, said, list(arguments)))
    process.start()
    try:
        when = moment(process)
        sent = time.monotonic()
        if when and process.pid and process.is_alive():
            os.kill(process.pid, number)
        process.join(PATIENCE)
    finally:
        process.kill()
        process.join()
    result = Start(said.read_text(), process.exitcode or 0)
    if when and process.exitcode != 0:  # else it was over before the signal came
        result.signal, result.moment = signal.Signals(number), when
        result.seconds_to_stop = time.monotonic() - sent
        result.stage, result.goes_on = _where(folder, result.said)
    return result


def _command(folder: Path, said: Path, arguments: list[str]) -> None:
    """What a forked process does: ``dtx run`` in a folder, its words in a file."""
    from dtx.cli import main

    os.chdir(folder)
    words = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(words, 1)
    os.dup2(words, 2)
    sys.exit(main(["run", *arguments]))


def uninterrupted(folder: Path, arguments: Iterable[str]) -> None:
    """The reference: the command as a user gives it, to its end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "dtx", "run", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the uninterrupted run failed:\n{done.stdout}{done.stderr}")


def _where(folder: Path, said: str) -> tuple[str, str]:
    """The stage that was being worked on as told on the screen, and what its next start finds."""
    told = re.findall(
        r"^\d+ of \d+ .* \((\w+)-([0-9a-f]{16})\) (starts|goes on|done)", said, re.MULTILINE
    )
    if not told:
        return "(starting up)", "nothing begun"
    name, key, what = told[-1]
    work = folder / "store" / ".work" / f"{name}-{key}"
    if what == "done":
        return "(between stages)", "nothing begun"
    if (folder / "store" / f"{name}-{key}" / "done.json").exists():
        return f"{name}", "committed"
    return name, "a checkpoint" if (work / "resume.ckpt").exists() else "scratch"


# --- what must hold at the end --------------------------------------------------------------------------


# --- all of it ------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What was done and what was found."""

    seconds: float = 0.0
    pipelines: int = 0
    starts: list[Start] = field(default_factory=list)
    compared: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def signals(self) -> list[Start]:
        """The starts that a signal ended."""
        return [s for s in self.starts if s.signal is not None]

    def lines(self) -> list[str]:
        """The counts, for the reader."""

        def count(values: Iterable[str]) -> str:
            return ", ".join(f"{name} {n}" for name, n in Counter(values).most_common())

        slowest = max((s.seconds_to_stop for s in self.signals), default=0.0)
        return [
            f"signals delivered: {len(self.signals)} "
            f"({count(s.signal.name for s in self.signals if s.signal)})",
            f"moment: {count(s.moment for s in self.signals)}",
            f"stage being worked on: {count(s.stage for s in self.signals)}",
            f"the next start found: {count(s.goes_on for s in self.signals)}",
            f"slowest stop: {slowest:.1f} s",
            f"pipelines completed: {self.pipelines}, starts of the command: {len(self.starts)}",
            f"files compared with the uninterrupted run: {self.compared}, "
            f"different: {sum('differs' in p or 'missing' in p for p in self.problems)}",
            f"problems: {len(self.problems)}",
            *(f"  {problem}" for problem in self.problems),
            f"time: {self.seconds / 60:.1f} minutes",
        ]


def chaos(
    place: Path,
    signals: int,
    seed: int,
    numbers: tuple[int, ...] = (signal.SIGKILL,),
    pipeline: Iterable[str] = PIPELINE,
    tell: Callable[[str], object] = lambda line: None,
) -> Tally:
    """Deliver ``signals`` signals over as many pipelines as that takes, and check each pipeline's end."""
    chance, tally, began = random.Random(seed), Tally(), time.monotonic()
    reference, whole = place / "reference", place / "whole"
    reference.mkdir(parents=True)
    whole.mkdir()
    uninterrupted(reference, pipeline)
    expected = artefacts(reference)
    once = time.monotonic()
    last = start(whole, lambda process: "", signal.SIGKILL, pipeline)
    length = time.monotonic() - once
    problems = _wrong_with(last, whole) + differences(expected, artefacts(whole))
    if problems:
        raise RuntimeError(f"two uninterrupted runs differ: {problems}")
    tell(f"uninterrupted: {len(expected)} files in {length:.1f} s")
    while len(tally.signals) < signals and len(tally.problems) < HOPELESS:
        folder = place / f"pipeline-{tally.pipelines}"
        folder.mkdir()
        problems, ended = [], False
        while not ended:
            enough = len(tally.signals) >= signals  # then let the last pipeline come to its end
            number = numbers[len(tally.signals) % len(numbers)]
            last = start(
                folder,
                lambda process, folder=folder, enough=enough: (
                    "" if enough else wait_for_moment(process, folder, chance, length)
                ),
                number,
                pipeline,
            )
            tally.starts.append(last)
            problems += _wrong_with(last, folder)
            ended = last.signal is None
            if not ended:
                tell(f"{len(tally.signals)}: {last.moment}, {last.stage}, {last.goes_on}")
        found = artefacts(folder)
        tally.compared += len(expected)
        problems += differences(expected, found) + leftovers(folder)
        problems += untracked(folder, complete=True)
        tally.problems += [f"pipeline {tally.pipelines}: {problem}" for problem in problems]
        for problem in problems:
            tell(f"pipeline {tally.pipelines}: {problem}")
        tally.pipelines += 1
    tally.seconds = time.monotonic() - began
    return tally


def _wrong_with(one: Start, folder: Path) -> list[str]:
    """What is wrong with how one start ended."""
    found = [f"a traceback:\n{one.said}"] if "Traceback" in one.said else []
    if one.signal is None:
        return found + ([f"status {one.status}:\n{one.said}"] if one.status else [])
    if one.signal == signal.SIGKILL:
        return found
    # Before the command has said a word it has begun nothing: there the system's own answer will do.
    if one.status != 130 and (one.said or one.status != -one.signal):
        found.append(f"status {one.status} after {one.signal.name} ({one.stage}):\n{one.said}")
    return found + [f"after {one.signal.name}: {w}" for w in untracked(folder, complete=False)]


def main() -> int:
    """Run from the command line and print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=0, help="SIGKILLs to deliver")
    parser.add_argument("--stops", type=int, default=0, help="SIGTERMs and SIGINTs to deliver")
    parser.add_argument("--events", type=int, default=0, help="harm to every verb: chaos_verbs.py")
    parser.add_argument("--pipeline", choices=list(PIPELINES), default="study", help="of signals")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--place", type=Path, help="where to work (default: a temporary folder)")
    chosen = parser.parse_args()
    modes = [
        (chosen.kills, (signal.SIGKILL,)),
        (chosen.stops, (signal.SIGTERM, signal.SIGINT)),
    ]
    bad = False
    for count, numbers in modes:
        if not count:
            continue
        with tempfile.TemporaryDirectory(prefix="chaos-", dir=chosen.place) as place:
            tally = chaos(
                Path(place),
                count,
                chosen.seed,
                numbers,
                PIPELINES[chosen.pipeline],
                tell=lambda x: print(x, flush=True),
            )
        print("\n".join(tally.lines()), flush=True)
        bad = bad or bool(tally.problems)
    if chosen.events:
        from tests.end_to_end import chaos_verbs

        words = ["--events", str(chosen.events), "--seed", str(chosen.seed)]
        bad = bool(chaos_verbs.main(words)) or bad
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
