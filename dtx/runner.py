"""Work out which stages are missing, run them in order, commit each one."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.markup import escape

from dtx.config import Experiment
from dtx.errors import Interrupted, UserError
from dtx.progress import console
from dtx.stage import Stage
from dtx.store import Store, checksum, use

_DISK_ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EFBIG,
    errno.EIO,
)
_PACKAGES = (
    "dtx",
    "torch",
    "pytorch-lightning",
    "numpy",
    "minigrid",
    "envpool",
    "gymnasium",
    "mlflow",
    "hydra-core",
)


@dataclass
class Outcome:
    """What happened to one stage: ``ran``, ``reused``, or ``not needed`` (what depends on it is done)."""

    stage: Stage
    status: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0


def stages(targets: Iterable[Stage]) -> list[Stage]:
    """All stages that the targets need, inputs first, each once."""
    ordered: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        if stage.label not in ordered:
            for parent in stage.inputs().values():
                visit(parent)
            ordered[stage.label] = stage

    for target in targets:
        visit(target)
    return list(ordered.values())


def missing(targets: Iterable[Stage], store: Store) -> list[Stage]:
    """The stages to run, inputs first: a committed stage stands for all behind it."""
    todo: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        if stage.label in todo or store.has(stage):
            return
        for parent in stage.inputs().values():
            visit(parent)
        todo[stage.label] = stage

    for target in targets:
        visit(target)
    return list(todo.values())


def run(experiment: Experiment) -> list[Outcome]:
    """Run what is missing and give the outcome of every stage, inputs first.

    Raises:
        UserError: Something the user can mend; finished stages stay, unfinished work is kept.
        Interrupted: Ctrl-C or SIGTERM; the same command goes on from there.
    """
    store = use(Store(experiment.store.path))
    everything = stages(experiment.targets.values())
    todo = missing(experiment.targets.values(), store)
    with disk_errors(store.root):
        _verify_inputs(everything, todo, store)
        if not todo:
            return [Outcome(s, "reused" if store.has(s) else "not needed") for s in everything]
        store.root.mkdir(parents=True, exist_ok=True)
        outcomes = {
            s.label: Outcome(s, "reused" if store.has(s) else "not needed") for s in everything
        }
        from dtx.tracking import open_tracker

        with _signals(), open_tracker(experiment, everything) as tracker:
            for stage in todo:
                outcomes[stage.label] = _run_stage(stage, store, tracker)
            tracker.finish(list(outcomes.values()))
    tracker.raise_if_broken(store.root)
    return list(outcomes.values())


def _verify_inputs(everything: list[Stage], todo: list[Stage], store: Store) -> None:
    """Verify what will be read: all that is committed if nothing is to run, else the inputs of what runs."""
    needed = [s for t in todo for s in t.inputs().values()] if todo else everything
    for stage in needed:
        if store.has(stage):
            store.verify(stage)


def _run_stage(stage: Stage, store: Store, tracker: Any) -> Outcome:
    with store.work(stage) as work:
        if work is None:
            return Outcome(stage, "reused")
        going_on = any(work.iterdir())
        console.print(f"[bold]{stage.name}[/] {stage.key} {'goes on' if going_on else 'starts'}")
        wall, cpu = time.time(), _cpu_seconds()
        with tracker.stage(stage, work) as shown:
            stage.run(work)
            seconds, cpu_seconds = time.time() - wall, _cpu_seconds() - cpu
            record = {
                **provenance(stage),
                "seconds": round(seconds, 3),
                "cpu_seconds": round(cpu_seconds, 3),
                "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "mlflow": shown.reference,
            }
            final = store.commit(stage, work, record)
            shown.committed(final)
        if shown.model_id:
            store.amend(stage, {"mlflow": shown.reference})
        summary = stage.summary()
        console.print(
            f"[bold]{stage.name}[/] {stage.key} done in {seconds:.0f} s: {escape(summary)}",
            soft_wrap=True,
        )
        return Outcome(stage, "ran", seconds, cpu_seconds)


def provenance(stage: Stage) -> dict[str, Any]:
    """What ``done.json`` says of where an artefact comes from."""
    return {
        "stage": stage.name,
        "class": f"{type(stage).__module__}.{type(stage).__qualname__}",
        "version": stage.version,
        "key": stage.key,
        "config": stage.config(),
        "inputs": {field: s.label for field, s in stage.inputs().items()},
        "source": {"file": stage.source().name, "sha256": checksum(stage.source())},
        "git": _git(),
        "packages": _versions(),
        "host": f"{platform.node()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
    }


@cache
def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


@cache
def _git() -> dict[str, Any]:
    """Commit and uncommitted changes of the clone that dtx runs from; empty for an installed wheel."""
    top = Path(__file__).resolve().parent.parent

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(top), *args], capture_output=True, text=True, check=True
        ).stdout

    if not (top / ".git").exists():
        return {}
    try:
        return {"sha": git("rev-parse", "HEAD").strip(), "diff": git("diff", "HEAD")[:200_000]}
    except (OSError, subprocess.CalledProcessError):
        return {}


def _cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


@contextlib.contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """Turn a full or read-only disk into one line that says where and what to do."""
    try:
        yield
    except (UserError, Interrupted):
        raise
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        # Libraries wrap the system's error in their own (torch: RuntimeError, safetensors: SafetensorError).
        full = number is None and _free_bytes(place) < 1 << 20
        if number not in _DISK_ERRORS and not full:
            raise
        where = getattr(error, "filename", None) or place
        reason = os.strerror(errno.ENOSPC if full or number is None else number)
        raise UserError(
            f"cannot write {where}: {reason}; make room there or choose another place with "
            "store.path=FOLDER, then give the same command again: finished stages are kept, the "
            "interrupted one goes on"
        ) from error


def _free_bytes(place: Path) -> int:
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM become :class:`Interrupted`, which nothing in between swallows."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted(signal.Signals(number).name)

    before = {s: signal.signal(s, interrupt) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
