"""Make the pictures of docs/mlflow.md: two small real sweeps, then MLflow's UI in a headless Chromium.

    python -m docs.screenshots docs/images/mlflow
    python -m docs.screenshots docs/images/mlflow seed=200 --project FOLDER

About three minutes on two cores, in a scratch folder that is removed; with ``--project`` in a folder that
stays, where finished stages are reused. Further words are overrides for both sweeps. The pictures have the
reader's window of 1440 pixels, in light colours.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from docs.gallery import small
from tests.browser import Page, browser, browser_lacks
from tests.servers import free_port

ROOT = Path(__file__).absolute().parents[1]
STUDY = ["experiment=quickstart", "dt.kept_checkpoints=8"]
CALIBRATION = [
    "analysis=[calibration]",
    "analysis.calibration.shuffled.steps=100",
    "analysis.calibration.episodes=100",
    "analysis.calibration.control_episodes=40",
]
STEPS = (60, 300)  # of the two DTs that are compared
CHECKPOINTS = (0, 1, 2, 5, 12, 26, 59, 133, 300)  # that a DT of 300 steps keeps
CURVES = [
    f"calibration return by target/{model}" for model in ("decision transformer", "behaviour clone")
]


def main(argv: list[str]) -> int:
    """Run what is missing, then write the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--project", type=Path)
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args(argv)
    if lacks := browser_lacks():
        print(lacks, file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dtx-pictures-") as scratch:
        folder = (args.project or Path(scratch)).absolute()
        for words in sweeps():
            subprocess.run(
                dtx("run", "-m", *STUDY, *args.overrides, *words), cwd=folder, env=env(), check=True
            )
        with ui(folder) as link, browser() as page:
            for name in photograph(page, link, folder / "mlflow.db", args.out):
                path = args.out / f"{name}.png"
                path.write_bytes(small(path.read_bytes()))
                print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")
    return 0


def sweeps() -> list[list[str]]:
    """The overrides of the two sweeps."""
    steps, kept = (",".join(map(str, values)) for values in (STEPS, CHECKPOINTS))
    return [
        [f"dt.steps={steps}", *CALIBRATION],
        [
            f"dt.steps={STEPS[-1]}",
            "analysis=[attribution]",
            f"analysis.attribution.checkpoint={kept}",
        ],
    ]


def dtx(*words: str) -> list[str]:
    """The command."""
    return [sys.executable, "-m", "dtx", *words]


def env() -> dict[str, str]:
    """Of the command: this checkout's dtx."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300"}


@contextmanager
def ui(folder: Path) -> Iterator[str]:
    """``dtx ui`` while the block runs; gives the link that it prints."""
    command = dtx("ui", f"--port={free_port()}")
    process = subprocess.Popen(command, cwd=folder, env=env(), stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        found = (re.match(r"runs: (\S+)", line) for line in process.stderr)
        yield next(match[1] for match in found if match)
    finally:
        process.terminate()
        process.wait()


def photograph(page: Page, link: str, database: Path, out: Path) -> Iterator[str]:
    """Write the pictures one by one; gives their names."""
    from mlflow import MlflowClient

    server, _, here = link.partition("/#")
    experiment = here.split("/")[2]
    client = MlflowClient(f"sqlite:///{database}")
    runs = client.search_runs([experiment], order_by=["start_time"])
    parent = "mlflow.parentRunId"
    tops = [r for r in runs if parent not in r.data.tags]
    calibrated, checkpoints = (r.info.run_id for r in tops[-2:])
    jobs = [
        r.info.run_id
        for r in runs
        if r.data.tags.get(parent) == calibrated and r.data.tags.get("dtx.role") == "job"
    ]

    def look(where: str, text: str, height: int) -> None:
        page.resize(1440, height)
        page.open("about:blank")
        page.open(f"{server}/#{where}")
        page.wait_for_text(text)

    def shoot(name: str) -> str:
        page.settle()
        page.screenshot(out / f"{name}.png")
        return name

    training, where = "workflowType=machine_learning", f"/experiments/{experiment}/runs"
    compared = f"runs={_value(jobs)}&experiments={_value([experiment])}"
    look(here, "over dt.steps", 620)
    page.click('.ag-row[row-index="1"] button')  # the jobs of the sweep over steps
    yield shoot("landing")
    look(f"{where}/{calibrated}?{training}", "Child runs", 900)
    yield shoot("sweep")
    look(f"/metric?{compared}&{_chart(CURVES)}", "X-axis", 760)
    yield shoot("calibration")
    look(f"{where}/{checkpoints}/model-metrics?{training}", "by checkpoint", 760)
    yield shoot("checkpoints")
    look(f"/compare-runs?{compared}", "Comparing", 1100)
    time.sleep(3)  # its lines are drawn on a canvas, after all else has settled
    yield shoot("compare")


def _chart(metrics: Sequence[str]) -> str:
    """The query of MLflow's page with a chart of some metrics of some runs."""
    chosen = {
        "metric": metrics[0],
        "plot_metric_keys": metrics,
        "plot_layout": {"autosize": True},
        "deselected_curves": [],
        "last_linear_y_axis_range": [],
    }
    shown = "x_axis=step&y_axis_scale=linear&line_smoothness=0&show_point=true"
    return "&".join([*(f"{name}={_value(value)}" for name, value in chosen.items()), shown])


def _value(value: object) -> str:
    """A value in the query of a page of MLflow's."""
    return quote(json.dumps(value))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
