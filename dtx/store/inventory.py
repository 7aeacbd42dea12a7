"""The content of a store, read from its files alone: no configs, no stages."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from stat import S_ISDIR
from typing import Any

from dtx.errors import UserError
from dtx.files import read_json
from dtx.report import write_atomically
from dtx.store.aside import WORK
from dtx.store.checksums import check_record, files_in
from dtx.store.store import DONE
from dtx.text import file_name

RUNS = ".runs"


@dataclasses.dataclass(frozen=True)
class Artefact:
    """A committed folder.

    Attributes:
        record: Its ``done.json``; empty if that cannot be read.
        size: Bytes of all its files, as recorded.
    """

    folder: Path
    record: Mapping[str, Any]
    size: int

    @property
    def label(self) -> str:
        """Folder name: stage and key."""
        return self.folder.name

    @property
    def inputs(self) -> list[str]:
        """Labels of its inputs."""
        return list(self.record.get("inputs", {}).values())

    @property
    def finished(self) -> float:
        """When it was committed, in seconds since 1970."""
        try:
            return datetime.fromisoformat(self.record["finished"]).timestamp()
        except (KeyError, TypeError, ValueError):
            return last_touched(self.folder)


def existing(root: Path) -> Path:
    """The store's folder, or a UserError."""
    if not root.is_dir():
        raise UserError(f"no store at {root}: `dtx run` makes one, --store names another place")
    return root.absolute()


def artefacts(root: Path) -> list[Artefact]:
    """All committed artefacts, newest first."""
    committed = [artefact(path.parent) for path in root.glob(f"[!.]*/{DONE}") if path.is_file()]
    return sorted(committed, key=lambda a: (-a.finished, a.label))


def artefact(folder: Path) -> Artefact:
    """The artefact in a folder."""
    path = folder / DONE
    try:
        record = check_record(read_json(path))
        size = path.stat().st_size + sum(size for size, _ in files_in(record).values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Artefact(folder, {}, folder_size(folder))
    return Artefact(folder, record, size)


def unfinished(root: Path) -> list[Path]:
    """Work folders: in progress or interrupted."""
    return sorted(p for p in (root / WORK).glob("*") if p.is_dir())


def last_touched(folder: Path) -> float:
    """When a file in the folder was last written, in seconds since 1970."""
    return max((stat.st_mtime for stat in _stats(folder)), default=0.0)


def folder_size(folder: Path) -> int:
    """Bytes of all files below a folder, or of a file."""
    return sum(stat.st_size for stat in _stats(folder) if not S_ISDIR(stat.st_mode))


def _stats(folder: Path) -> Iterator[os.stat_result]:
    """Of the folder and all below it; files that a process removes meanwhile are left out."""
    paths = [str(folder)]
    for place, folders, names in os.walk(folder):
        paths += [os.path.join(place, name) for name in (*folders, *names)]  # noqa: PTH118
    for path in paths:
        with contextlib.suppress(OSError):
            yield os.lstat(path)


@dataclasses.dataclass(frozen=True)
class NamedRun:
    """A run that the user gave a name; ``dtx gc`` keeps its stages."""

    name: str
    labels: list[str]
    path: Path


def remember_run(root: Path, name: str, overrides: Sequence[str], labels: Sequence[str]) -> None:
    """Record the stages of a finished run or sweep if the user gave it a name on the command line."""
    if not any(text.lstrip("+").startswith("name=") for text in overrides):
        return
    (root / RUNS).mkdir(parents=True, exist_ok=True)
    note = {
        "name": name,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "overrides": list(overrides),
        "labels": sorted(set(labels)),
    }
    path = root / RUNS / f"{file_name(name)}.json"
    write_atomically(path, json.dumps(note, indent=1) + "\n")


def named_runs(root: Path) -> list[NamedRun]:
    """All named runs of the store.

    Raises:
        UserError: A file cannot be read, so the stages of its run are not known.
    """
    runs = []
    for path in sorted((root / RUNS).glob("*.json")):
        try:
            record = read_json(path)
            runs.append(NamedRun(str(record["name"]), [str(s) for s in record["labels"]], path))
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(
                f"{path} cannot be read, so the stages of this run are not known: remove the file to "
                "forget the run"
            ) from None
    return runs
