"""Make the pictures of docs/mlflow.md: two small real sweeps, then MLflow's UI in a headless Chromium.

    python -m docs.screenshots docs/images/mlflow
    python -m docs.screenshots docs/images/mlflow --project FOLDER seed=200

About five minutes on two idle cores, in a scratch folder that is removed; with ``--project`` in a folder that
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
from collections.abc import Iterator
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
CURVE = "calibration return by target"
SWEPT = "attribution/ld by checkpoint"


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

    training = "workflowType=machine_learning"
    look(here, "matching runs", 560)
    yield shoot("landing")
    look(f"/experiments/{experiment}/runs/{calibrated}?{training}", "Child runs", 900)
    yield shoot("sweep")
    ids = json.dumps(jobs)
    name = quote(json.dumps(f"{CURVE}/dt"))
    look(f"/metric?runs={quote(ids)}&metric={name}&experiments=[%22{experiment}%22]", CURVE, 760)
    yield shoot("calibration")
    look(f"/experiments/{experiment}/runs/{checkpoints}/model-metrics?{training}", SWEPT, 760)
    yield shoot("checkpoints")
    look(f"/compare-runs?runs={quote(ids)}&experiments=[%22{experiment}%22]", "Comparing", 1100)
    yield shoot("compare")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
