"""Stages and places for tests of remote stores."""

import os
import random
import signal
from dataclasses import dataclass
from pathlib import Path

from dtx.stage import Stage
from tests import object_store
from tests.toys import Number, Sum, count_run

ONE, TWO = Number(value=1), Number(value=2)
TOTAL = Sum(left=ONE, right=TWO)


@dataclass(frozen=True, kw_only=True)
class Files(Stage):
    """Many files of random bytes, which take a while to copy."""

    count: int
    size: int

    def run(self, out: Path) -> None:
        count_run(out, "files")
        numbers = random.Random(self.count)
        for i in range(self.count):
            path = out / f"part{i % 3}" / f"{i:04}.bin"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(numbers.randbytes(self.size))


@dataclass(frozen=True, kw_only=True)
class Somewhere(Stage):
    """Differs from machine to machine, as the last digits of a trained network do."""

    def run(self, out: Path) -> None:
        (out / "value.txt").write_text(out.parents[2].name)
        (out / "more.txt").write_text(out.parents[2].name * 100)


@dataclass(frozen=True, kw_only=True)
class LosesServer(Stage):
    """The S3 server dies while this stage runs."""

    pid: int

    def run(self, out: Path) -> None:
        count_run(out, "loses")
        os.kill(self.pid, signal.SIGKILL)
        (out / "value.txt").write_text("kept")


@dataclass
class Place:
    """A remote store: its URL, the folder where its objects are files, and a stage that is slow to copy."""

    url: str
    folder: Path
    slow: Files
    server: object_store.S3Server | None = None

    def changed(self) -> None:
        """Call after changing objects by their files."""
        if self.server is not None:
            self.server.start()


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def artefact(tmp_path: Path, name: str, stage: Stage) -> Path:
    return tmp_path / name / "store" / stage.label
