"""Tiny real stages for tests of what runs stages."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.result import About, Check, Claim, Result, Verdict
from dtx.env.environment import Environment
from dtx.errors import Interrupted, UserError
from dtx.report import Report
from dtx.stage import RUNTIME, Stage


class Sign(Enum):
    PLUS = "plus"
    MINUS = "minus"


@dataclass(frozen=True, kw_only=True)
class Part:
    weight: float

    def check(self) -> Iterator[tuple[str, str]]:
        if self.weight <= 0:
            yield "weight", "must be above 0"


@dataclass(frozen=True, kw_only=True)
class Number(Stage):
    """Writes a number; the source of a graph. Counts its runs in a file beside the store."""

    value: int
    sign: Sign = Sign.PLUS
    parts: tuple[Part, ...] = ()
    workers: int = field(default=1, metadata=RUNTIME)

    def run(self, out: Path) -> None:
        count_run(out, self.name)
        (out / "value.txt").write_text(str(self.load_value()))
        report = Report(out)
        for step in range(3):
            report.curve(step, {"toy/loss": 1.0 / (step + 1)})
        report.headline({"toy/value": self.value})

    def load_value(self) -> int:
        return self.value if self.sign is Sign.PLUS else -self.value

    def load(self) -> int:
        return int((self.path / "value.txt").read_text())


@dataclass(frozen=True, kw_only=True)
class Sum(Stage):
    """Adds its inputs, slowly if told so, or fails."""

    left: Number
    right: Number
    seconds: float = 0.0
    fail: str = ""

    def run(self, out: Path) -> None:
        count_run(out, "sum")
        if self.fail == "interrupt" and not (out / "half.txt").exists():
            (out / "half.txt").write_text("half")
            raise Interrupted("SIGTERM")
        if self.fail == "bug":
            raise ZeroDivisionError("a defect")
        time.sleep(self.seconds)
        (out / "half.txt").unlink(missing_ok=True)
        (out / "value.txt").write_text(str(self.left.load() + self.right.load()))

    def load(self) -> int:
        return int((self.path / "value.txt").read_text())


@dataclass(frozen=True, kw_only=True)
class Spread(Analysis):
    """An analysis with one claim, whose identity has a given error."""

    of: Stage
    error: float

    def compute(self) -> Result:
        return Result(
            finding="spread 0.5",
            metrics={"spread": 0.5, "error": self.error},
            checks=[Check(name="a sum and its parts", error=self.error, tolerance=1e-6)],
            about=About.INSTRUMENT,
            claims=[
                Claim(
                    id="spreads",
                    text="values spread",
                    criterion="spread above 0.1",
                    evidence="0.5",
                    verdict=Verdict.CONFIRMED,
                )
            ],
        )


@dataclass(frozen=True, kw_only=True)
class Link(Stage):
    """Adds a value to what is before it: agent -> dataset -> dt -> analysis in small."""

    before: Stage | None
    value: int
    fail: bool

    def run(self, out: Path) -> None:
        count_run(out, "link")
        if self.fail:
            raise UserError(f"told to fail at {self.value}")
        total = self.value + (self.before.load() if isinstance(self.before, Link) else 0)
        (out / "value.txt").write_text(str(total))
        Report(out).headline({f"{self.title}/total": total})

    @property
    def title(self) -> str:
        return "chain" if isinstance(self.before, Link) else "start"

    def load(self) -> int:
        return int((self.path / "value.txt").read_text())


@dataclass(frozen=True, kw_only=True)
class Total(Analysis):
    """An analysis whose one headline metric is a link's total, and a curve of its multiples."""

    headline = ("total",)

    of: Link

    def compute(self) -> Result:
        check = Check(name="a sum and its parts", error=0.0, tolerance=1e-6)
        total = float(self.of.load())
        metrics = {"total": total, "half": total / 2}
        return Result(finding="a total", metrics=metrics, checks=[check], about=About.INSTRUMENT)

    def curves(self, result: Result) -> Iterator[tuple[str, int, float]]:
        for times in range(3):
            yield "multiples/of the total", times, times * (result.metrics["total"] or 0.0)


LINK = "_target_: tests.toys.Link\nbefore: {before}\nvalue: 0\nfail: false\n"


def write_chain(folder: Path) -> None:
    """Configs of a user: toy agent, dataset and dt, and two analyses of the dt."""
    before = {"agent": "null", "dataset": "${agent}", "dt": "${dataset}"}
    for group, reference in before.items():
        (folder / group).mkdir(parents=True)
        (folder / group / "toy.yaml").write_text(LINK.format(before=reference))
    (folder / "analysis").mkdir()
    for value, name in enumerate(("one", "two")):
        text = LINK.format(before="${dt}").replace("value: 0", f"value: {value}")
        (folder / "analysis" / f"{name}.yaml").write_text(f"# @package analysis.{name}\n{text}")


CHAIN = ["agent=toy", "dataset=toy", "dt=toy", "analysis=[one,two]"]


def count_run(out: Path, name: str) -> None:
    """Append a byte to ``runs.NAME`` beside the store."""
    with (out.parents[2] / f"runs.{name}").open("a") as handle:
        handle.write(f"{os.getpid()}\n")


def runs(folder: Path, name: str) -> int:
    path = folder / f"runs.{name}"
    return len(path.read_text().splitlines()) if path.exists() else 0


@dataclass(frozen=True, kw_only=True)
class Placed(Stage):
    """Made in an environment, of which it writes the id."""

    env: Environment

    def run(self, out: Path) -> None:
        (out / "env.txt").write_text(self.env.id)
