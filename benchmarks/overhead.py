"""Overhead of store and tracking per stage, beside the stage's own work: `python benchmarks/overhead.py`.

Pipelines of four stages run in real processes, one or four at once, without tracking, with sqlite, and with
an `mlflow server` on PostgreSQL (a private cluster on loopback, commits wait for the disk). A stage has 6
curves of 200 points, a table of 300 rows, a PNG and 2 MB of weights. Overhead is the time between the
end of one stage's `run()` and the beginning of the next one's; the columns right of it say where it goes
(means). CPU is that of the `dtx` process in this time, the only column that other load on the machine does
not change. The last column is the cost per command: the connection, MLflow's imports, the experiment's own
run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).absolute().parent.parent))

from rich.console import Console
from rich.table import Table

from dtx.config.compose import compose, experiment
from dtx.running.runner import run
from dtx.store.store import Store
from tests.reporting import Reporting
from tests.servers import mlflow_server, postgres, postgres_lacks

PIPELINE = 4  # agent, dataset, DT, analysis
# The column of each call; the rest of a gap is locks, hashes, JSON and the terminal.
PARTS = {
    "create_run": "runs",
    "set_terminated": "runs",
    "search_runs": "runs",
    "set_tag": "runs",
    "log_inputs": "lineage",
    "log_outputs": "lineage",
    "create_logged_model": "lineage",
    "finalize_logged_model": "lineage",
    "log_table": "tables, figures",
    "log_text": "tables, figures",
    "log_dict": "tables, figures",
    "log_artifact": "tables, figures",
    "log_artifacts": "tables, figures",
}
COLUMNS = ("store", "runs", "params", "metrics", "lineage", "tables, figures")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timed(Reporting):
    """The stage that is measured: notes when its work began and ended."""

    @property
    def name(self) -> str:
        return "timed"

    def run(self, out: Path) -> None:
        for source in self.sources:
            assert source.path.is_dir()  # verifies its files, as every reader of an artefact does
        clock.began()
        super().run(out)
        clock.ended()


class Clock:
    """Times of the main thread: work, the gaps between, and the calls in them."""

    def __init__(self) -> None:
        self.work: list[float] = []
        self.gaps: list[float] = []
        self.cpu: list[float] = []
        self.parts: list[dict[str, float]] = []
        self._since: float | None = None
        self._cpu_since = 0.0
        self._depth = 0
        self._now: dict[str, float] = {}

    def began(self) -> None:
        """A stage's own work begins."""
        now = time.perf_counter()
        if self._since is not None:
            self.gaps.append(now - self._since)
            self.cpu.append(time.process_time() - self._cpu_since)
            self.parts.append(self._now)
        self._now, self._since = {}, now

    def ended(self) -> None:
        """It ends."""
        now = time.perf_counter()
        assert self._since is not None
        self.work.append(now - self._since)
        self._now, self._since = {}, now
        self._cpu_since = time.process_time()

    def watch(self, owner: type, method: str, part: Callable[..., str]) -> None:
        """Count the time of a method's outermost calls under a part."""
        original = getattr(owner, method)

        def timed(*args, **kwargs):
            if threading.current_thread() is not threading.main_thread() or self._depth:
                return original(*args, **kwargs)
            self._depth += 1
            start = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                self._depth -= 1
                name = part(**kwargs)
                self._now[name] = self._now.get(name, 0.0) + time.perf_counter() - start

        setattr(owner, method, timed)


clock = Clock()


def worker(store: Path, uri: str | None, process: int, count: int) -> None:
    """One `dtx run` of ``count`` stages; starts at a line on its input, prints its times as JSON."""
    import mlflow

    for method, part in PARTS.items():
        clock.watch(mlflow.MlflowClient, method, lambda part=part, **_: part)
    clock.watch(
        mlflow.MlflowClient,
        "log_batch",
        lambda **given: "params" if given.get("params") else "metrics",
    )
    for method in ("commit", "verify", "amend"):
        clock.watch(Store, method, lambda **_: "store")
    tracking = ["tracking.enabled=false"] if uri is None else [f"tracking.uri={uri}"]
    what = experiment(compose(["target=agent", f"store.path={store}", *tracking]))
    pipelines = [pipeline(process * count + i) for i in range(0, count, PIPELINE)]
    what = dataclasses.replace(what, targets={f"t{i}": p for i, p in enumerate(pipelines)})
    with tempfile.TemporaryDirectory() as scratch:  # imports and caches of the drawing library
        Reporting.run(pipelines[0], Path(scratch))
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.perf_counter()
    run(what)
    whole = time.perf_counter() - start
    once = whole - sum(clock.work) - sum(clock.gaps)
    times = {"work": clock.work, "gaps": clock.gaps, "cpu": clock.cpu}
    times |= {"parts": clock.parts, "once": once}
    print(json.dumps(times), flush=True)


def pipeline(first: int) -> Timed:
    """Four stages, each reading the one before."""
    stage: Timed | None = None
    for number in range(first, first + PIPELINE):
        sources = (stage,) if stage else ()
        stage = Timed(
            number=number, sources=sources, points=200, curves=6, rows=300, weights_kb=2048
        )
    assert stage is not None
    return stage


@dataclasses.dataclass
class Row:
    """A line of the table; times in milliseconds a stage."""

    tracking: str
    processes: int
    work: float
    median: float
    high: float
    cpu: float
    parts: dict[str, float]
    once: float


def measure(tracking: str, uri: str | None, processes: int, count: int, folder: Path) -> Row:
    """Run the workers at once and put their times together."""
    command = [sys.executable, __file__, "--stages", str(count), "--store", str(folder / "store")]
    command += ["--uri", uri] if uri else []
    jobs = [
        subprocess.Popen(
            [*command, "--process", str(i)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / f"worker-{i}.log").open("w"),
            cwd=folder,
            text=True,
        )
        for i in range(processes)
    ]
    for job in jobs:
        assert job.stdout is not None
        assert job.stdout.readline() == "ready\n", (folder / "worker-0.log").read_text()
    for job in jobs:
        assert job.stdin is not None
        job.stdin.write("go\n")
        job.stdin.flush()
    outputs = [job.communicate()[0] for job in jobs]
    for i, job in enumerate(jobs):
        assert job.returncode == 0, (folder / f"worker-{i}.log").read_text()
    times = [json.loads(text.splitlines()[-1]) for text in outputs]
    Console(stderr=True).print(f"[dim]measured: tracking {tracking}, {processes} at once[/]")
    gaps = [1000 * g for t in times for g in t["gaps"]]
    parts = [p for t in times for p in t["parts"]]
    mean = {c: 1000 * statistics.fmean(p.get(c, 0.0) for p in parts) for c in COLUMNS}
    return Row(
        tracking,
        processes,
        1000 * statistics.median(w for t in times for w in t["work"]),
        statistics.median(gaps),
        statistics.quantiles(gaps, n=20, method="inclusive")[-1],
        1000 * statistics.median(c for t in times for c in t["cpu"]),
        {**mean, "rest": statistics.fmean(gaps) - sum(mean.values())},
        statistics.fmean(t["once"] for t in times),
    )


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one row."""
    with tempfile.TemporaryDirectory(prefix="dtx-overhead-") as folder:
        yield Path(folder)


def without_tracking(processes: int, count: int) -> Row:
    """The store alone."""
    with scratch() as folder:
        return measure("off", None, processes, count, folder)


def sqlite(processes: int, count: int) -> tuple[Row, float]:
    """A database beside the store, and the seconds that making it takes."""
    import mlflow.store.model_registry.sqlalchemy_store  # what is imported is not the database's
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    from dtx.tracking import open_tracker

    with scratch() as folder:
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        overrides = ["target=agent", f"store.path={folder / 'store'}", f"tracking.uri={uri}"]
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            with open_tracker(experiment(compose(overrides))):
                seconds.append(time.perf_counter() - start)
        return measure("sqlite", uri, processes, count, folder), seconds[0] - seconds[1]


def served(database: str, processes: int, count: int) -> tuple[Row, float]:
    """A server on PostgreSQL, and the seconds that making its tables takes."""
    from mlflow import MlflowClient

    start = time.perf_counter()
    MlflowClient(database).search_experiments(max_results=1)
    seconds = time.perf_counter() - start
    with scratch() as folder, mlflow_server(database, folder) as server:
        return measure("PostgreSQL", server.uri, processes, count, folder), seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stages", type=int, default=20, help="a process (default: 20)")
    for name in ("--store", "--process", "--uri"):
        parser.add_argument(name, help=argparse.SUPPRESS)  # a worker's
    chosen = parser.parse_args()
    count = max(PIPELINE, chosen.stages // PIPELINE * PIPELINE)
    if chosen.store:
        worker(Path(chosen.store), chosen.uri, int(chosen.process), count)
        return
    rows = [without_tracking(n, count) for n in (1, 4)]
    made = [sqlite(n, count) for n in (1, 4)]
    rows += [row for row, _ in made]
    fresh = {"sqlite": made[0][1]}
    lacks = postgres_lacks()
    if not lacks:
        with postgres(durable=True) as database:
            made = [served(database(), n, count) for n in (1, 4)]
        rows += [row for row, _ in made]
        fresh["PostgreSQL"] = made[0][1]
    show(rows, fresh, lacks, count)


def show(rows: list[Row], fresh: dict[str, float], lacks: str, count: int) -> None:
    """Print the table."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    table = Table(title=f"milliseconds a stage; {count} stages a process; {machine}")
    heads = (
        "tracking",
        "at once",
        "bare run()",
        "overhead: median",
        "95 %",
        "CPU",
        *COLUMNS,
        "rest",
    )
    for name in (*heads, "a command"):
        table.add_column(name, justify="left" if name == "tracking" else "right")
    for row in rows:
        numbers = [row.work, row.median, row.high, row.cpu]
        numbers += [row.parts[c] for c in (*COLUMNS, "rest")]
        table.add_row(
            row.tracking,
            str(row.processes),
            *(f"{x:.0f}" for x in numbers),
            f"{1000 * row.once:.0f}",
        )
    if lacks:
        table.add_row("PostgreSQL", "", "not installed")
    console = Console(width=160)
    console.print(table)
    for name, seconds in fresh.items():
        console.print(f"a fresh database on {name}: {seconds:.1f} s, once")
    if lacks:
        console.print(lacks)


if __name__ == "__main__":
    main()
