"""A stage that hands over everything a stage can: curves, numbers, a table, a figure and a model.

For the tests of tracking servers and for `benchmarks/overhead.py`, which gives it realistic sizes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from dtx.report import Report
from dtx.stage import RUNTIME, Stage


@dataclass(frozen=True, kw_only=True)
class Reporting(Stage):
    """Reports smooth functions of its number.

    Attributes:
        number: Changes every value that comes out.
        sources: Inputs; nothing is read from them.
        points: Points of each curve.
        curves: Number of curves.
        rows: Rows of the table.
        weights_kb: Size of the model.
        figure: Whether a figure is drawn; it takes longer than all the rest.
        until: Half of the points are written, then the stage waits until this file exists.
    """

    number: int
    sources: tuple[Reporting, ...] = ()
    points: int = 3
    curves: int = 2
    rows: int = 4
    weights_kb: int = 1
    figure: bool = True
    until: str = field(default="", metadata=RUNTIME)

    def run(self, out: Path) -> None:
        import numpy as np
        import pandas as pd
        from safetensors.numpy import save_file

        rng = np.random.default_rng(self.number)
        report = Report(out)
        report.rewind(0)
        for step in range(self.points):
            if self.until and step == self.points // 2:
                while not Path(self.until).exists():
                    time.sleep(0.05)
            names = (f"train/curve_{i}" for i in range(self.curves))
            report.curve(step, {n: self.number + 1 / (step + i + 1) for i, n in enumerate(names)})
        columns = {"target": np.linspace(0, 1, self.rows), "return": rng.random(self.rows)}
        frame = pd.DataFrame(columns).assign(outcome="success")
        report.table("returns", frame)
        if self.figure:
            self.draw(report, frame)
        save_file({"weight": rng.random(self.weights_kb * 128)}, out / "weights.safetensors")
        report.headline({"toy/return": float(frame["return"].mean()), "toy/number": self.number})

    def draw(self, report: Report, frame) -> None:
        from dtx import figures

        figure, axes = figures.new(mosaic=[["returns"]])
        axes["returns"].plot(frame["target"], frame["return"])
        report.figure("returns", figure)
