"""Garbage collection of a store: find artefacts that nothing needs, and delete them.

Needed are the stages of all presets as they are composed now, of named runs, and of running and interrupted
experiments, each with its inputs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from dtx.config.build import ConfigError
from dtx.errors import UserError
from dtx.store import locks
from dtx.store.aside import INVALID, LOCKS, label_of, own
from dtx.store.inventory import (
    Artefact,
    artefacts,
    folder_size,
    last_touched,
    named_runs,
    unfinished,
)
from dtx.store.needs import InUse, gate, in_use, remove, remove_strays
from dtx.store.store import DONE

DAY = 86400.0


@dataclasses.dataclass(frozen=True)
class Item:
    """A folder or file in the store, and why it is kept or deleted."""

    path: Path
    kind: str
    size: int
    why: str

    @property
    def label(self) -> str:
        """Label of the stage whose lock protects it."""
        return label_of(self.path)


@dataclasses.dataclass
class Survey:
    """Items to keep and to delete; ``idle`` counts lock files that no process holds."""

    stays: list[Item]
    goes: list[Item]
    idle: int


# --- find ----------------------------------------------------------------------------------


def reached_by_presets(config_dir: Path | None = None) -> dict[str, str]:
    """Labels of all stages of the defaults and of every preset, with the preset's name.

    A preset whose expected numbers are over several seeds reaches the stages of each.

    Raises:
        UserError: A preset cannot be composed, so its stages are not known.
    """
    from dtx.config.compose import compose, experiment
    from dtx.config.expected import seeds_of
    from dtx.config.options import options
    from dtx.running.plan import stages

    reached: dict[str, str] = {}
    presets = [option.name for option in options(config_dir).get("experiment", ())]
    for preset in (None, *presets):
        name = f"preset {preset}" if preset else "the defaults"
        try:
            first = experiment(compose([f"experiment={preset}"] if preset else [], config_dir))
            seeds = seeds_of(preset) if preset else ()
            others = {n: experiment({**first.raw, "seed": n}) for n in seeds}
        except ConfigError as error:
            lines = [f"{name} cannot be composed, so its stages are not known", str(error)]
            raise UserError("\n".join(lines)) from None
        for seed, one in {None: first, **others}.items():
            for stage in stages(one.targets.values()):
                reached.setdefault(stage.label, name if seed is None else f"{name}, seed {seed}")
    return reached


def survey(
    root: Path, presets: dict[str, str], keep: Sequence[str] = (), older: float = 7.0
) -> Survey:
    """Find the items of a store to keep and to delete; changes nothing.

    Args:
        root: The store.
        presets: From :func:`reached_by_presets`.
        keep: Beginnings of names of folders to keep.
        older: Days after which what nothing else keeps is deleted.

    Raises:
        UserError: A record cannot be read, so its inputs are not known; or nothing has a name in ``keep``.
    """
    there = artefacts(root)
    recent = [u for u in in_use(root) if u.living or time.time() - u.since < older * DAY]
    reasons = _reasons(root, there, presets, keep, recent, older)
    stays, goes = [], []
    for artefact in there:
        why = reasons.get(artefact.label)
        item = Item(artefact.folder, "artefact", artefact.size, why or "nothing reaches it")
        (stays if why else goes).append(item)
    for folder in unfinished(root):
        item, old = _unfinished(root, folder, older)
        (goes if old else stays).append(item)
    for folder in sorted((root / INVALID).glob("*")):
        days = (time.time() - folder.lstat().st_ctime) / DAY  # when it was moved there
        item = Item(folder, "set aside", folder_size(folder), f"set aside {days:.1f} days ago")
        (goes if days > older else stays).append(item)
    whole = {a.folder.name for a in there}
    for path in sorted(root.glob("[!.]*")):
        if path.name not in whole:
            stays.append(Item(path, "unknown", folder_size(path), "no done.json: not dtx's"))
    idle = sum(not locks.locked(root / LOCKS, label) for label in _lock_labels(root))
    return Survey(stays, goes, idle)


def _reasons(
    root: Path,
    there: list[Artefact],
    presets: dict[str, str],
    keep: Sequence[str],
    recent: Iterable[InUse],
    older: float,
) -> dict[str, str]:
    """Why artefacts are kept, by label."""
    by_label = {a.label: a for a in there}
    reasons = {label: why for label, why in presets.items() if label in by_label}
    for run in named_runs(root):
        for label in run.labels:
            reasons.setdefault(label, f"run {run.name}")
    for use in recent:
        for label in use.labels:
            state = "needs it" if use.living else "was interrupted and can go on"
            reasons.setdefault(label, f"{use.who} {state}")
    for prefix in keep:
        matched = [label for label in by_label if label.startswith(prefix)]
        if not matched:
            raise UserError(f"--keep {prefix}: nothing in {root} starts with that")
        for label in matched:
            reasons.setdefault(label, f"--keep {prefix}")
    for label in by_label:
        if (who := locks.holder(root / LOCKS, label)) is not None:
            reasons.setdefault(label, f"{locks.in_words(who)} works on it")
    for artefact in there:  # what a run without a name has just made is somebody's
        days = (time.time() - artefact.finished) / DAY
        if artefact.record and days <= older:
            reasons.setdefault(artefact.label, f"made {days:.1f} days ago (--older {older:g})")
    queue = [label for label in reasons if label in by_label]
    while queue:
        label = queue.pop()
        if not by_label[label].record and label not in presets:
            raise UserError(
                f"{by_label[label].folder}/done.json is not readable, so what it was made from is "
                f"not known: `dtx invalidate {label}` sets it aside"
            )
        for source in by_label[label].inputs:
            if source in by_label and source not in reasons:
                reasons[source] = f"input of {label}"
                queue.append(source)
    return reasons


def _unfinished(root: Path, folder: Path, older: float) -> tuple[Item, bool]:
    label = label_of(folder)
    size, days = folder_size(folder), (time.time() - last_touched(folder)) / DAY
    who = locks.holder(root / LOCKS, label)
    old = who is None and days > older
    why = f"interrupted {days:.1f} days ago" + ("" if old else f" (--older {older:g})")
    if who is not None:
        why = f"{locks.in_words(who)} works on it"
    return Item(folder, "unfinished", size, why), old


def _lock_labels(root: Path) -> list[str]:
    """Labels of stages that have a lock or holder file."""
    return sorted({p.stem for p in (root / LOCKS).glob("*") if p.suffix in (".lock", ".holder")})


# --- delete -------------------------------------------------------------------------------------


def collect(root: Path, items: Iterable[Item], older: float = 7.0) -> tuple[list[Item], list[Item]]:
    """Delete items, each under its stage's lock, and all idle lock files.

    An artefact is first moved to ``.invalid`` by one rename: a kill leaves it there, for the next collection,
    or untouched.

    Returns:
        The deleted items, and those that were kept because a process needs them now.
    """
    deleted: list[Item] = []
    kept: list[Item] = []
    for item in items:
        if item.kind == "set aside":
            _delete(item.path)
            deleted.append(item)
        else:
            (deleted if _take(root, item) else kept).append(item)
    for label in _lock_labels(root):
        _remove_lock(root, label)
    for use in in_use(root):
        if not use.living and time.time() - use.since > older * DAY:
            remove(use.path)
    remove_strays(root)
    return deleted, kept


def _take(root: Path, item: Item) -> bool:
    """Delete one folder unless a process works on it or will read it."""
    with locks.free(root / LOCKS, item.label) as is_free:
        if not is_free:
            return False
        with gate(root):
            if any(item.label in use.labels for use in in_use(root) if use.living):
                return False
            aside = own(root, INVALID) / f"gc.{item.path.name}.{time.time_ns()}"
            with contextlib.suppress(FileNotFoundError):  # set aside by a user meanwhile
                item.path.rename(aside)
        _delete(aside)
    return True


def _delete(path: Path) -> None:
    """Delete a folder, ``done.json`` first, or a file. Of a link, only the link."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    (path / DONE).unlink(missing_ok=True)
    shutil.rmtree(path)


def _remove_lock(root: Path, label: str) -> None:
    """Remove the files of a lock that nobody holds, while holding it.

    A process that opened the file before finds it unlinked when it gets the lock, and opens a new one
    (filelock checks that).
    """
    with locks.free(root / LOCKS, label) as is_free:
        for suffix in ("holder", "holder.partial", "lock") if is_free else ():
            (root / LOCKS / f"{label}.{suffix}").unlink(missing_ok=True)
