"""A stage that notes in which process it ran, for tests of launchers."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from dtx.errors import UserError
from dtx.report import Report
from dtx.stage import Stage


@dataclass(frozen=True, kw_only=True)
class Where(Stage):
    """Notes its process beside the store, waits for others to have done so, and fails below 0."""

    before: Stage | None
    value: int
    together: int
    """This many stages with an input have to run at once; they wait for each other."""

    def run(self, out: Path) -> None:
        folder = out.parents[2]
        if self.before is not None:
            self.before.load()
        note = {"pid": os.getpid(), "node": node(), "threads": os.environ.get("OMP_NUM_THREADS")}
        name = "shared" if self.before is None else f"job{self.value}"
        (folder / f"{name}.{os.getpid()}.json").write_text(json.dumps(note))
        while len(list(folder.glob("job*.json"))) < self.together:
            time.sleep(0.05)
        if self.value < 0:
            raise UserError(f"told to fail at {self.value}")
        Report(out).headline({"where/value": self.value})

    def load(self) -> int:
        return json.loads((self.path / "headline.json").read_text())["where/value"]


def node() -> str:
    """The node of a Ray cluster, if this is one's worker."""
    ray = sys.modules.get("ray")
    return ray.get_runtime_context().get_node_id() if ray and ray.is_initialized() else ""


def write_where(folder: Path) -> None:
    """Configs of a user: an agent, and an analysis of it."""
    for group, before in (("agent", "null"), ("analysis", "${agent}")):
        (folder / group).mkdir(parents=True)
        text = f"_target_: tests.where.Where\nbefore: {before}\nvalue: 0\ntogether: 0\n"
        package = "# @package analysis.job\n" if group == "analysis" else ""
        (folder / group / "job.yaml").write_text(package + text)


WHERE = ["agent=job", "analysis=[job]"]
