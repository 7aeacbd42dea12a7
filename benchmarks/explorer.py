"""Speed of the explorer beside one bare forward pass, all from one run, as a markdown table.

    python benchmarks/explorer.py            # two minutes; --store DIR: the newest model of a store

u is the median time of one forward pass with attention patterns after a pause, in this process: a processor
that has slept is slower than one in a loop, and keys come after pauses. It is measured between all other
rows. A key's time is from the key to the drawn page, in a real Chromium, with the policy, attention,
reward-to-go scan and lens open. Other load on the machine makes all of it slower, u too; the ratios hold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).absolute().parent.parent))

import torch

from dtx.app.asked import Explorer
from dtx.app.models import Loader
from dtx.app.moment import Moment
from dtx.app.scene import OpenPanel
from dtx.verbs.app import explorer as explorer_of
from tests.app.page.browser import tab
from tests.servers import free_port

ROOT = Path(__file__).absolute().parent.parent
PAUSE = 0.1
"""Seconds before a forward pass or a key."""
LONGEST = 8
"""Actions until a restart: 26 tokens."""
EDIT = {"op": "set_type", "select": {"role": "instruction"}, "to": {"ball": "key", "key": "ball"}}
PATCHED: dict[str, Any] = {"actions": "ffff", "edits": [EDIT]}
WATCH = """
window.times = [];
addEventListener("keydown", () => { window.begun = performance.now(); }, true);
new MutationObserver(() => {
  window.first ??= performance.now();
  const begun = window.begun;
  if (begun === undefined) return;
  const drawn = performance.now() - begun;
  requestAnimationFrame(() => window.times.push([drawn, performance.now() - begun]));
}).observe(document, {subtree: true, attributes: true, attributeFilter: ["data-drawn"]});
"""
"""In the page: the time of each key until it is drawn, and until it is painted."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keys", type=int, default=100)
    parser.add_argument(
        "--store", type=Path, help="default: none, so that the model that ships is measured"
    )
    parser.add_argument("--record", type=Path, help="write what is printed here, as JSON")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="dtx-bench-") as folder:
        store = (chosen.store or Path(folder, "none")).absolute()
        with explorer_of(store) as explorer:
            lines = Measured(explorer, store, Path(folder), chosen.seed, chosen.keys).all()
    print("\n".join(lines))
    if chosen.record:
        text = json.dumps({"date": date.today().isoformat(), "lines": lines}, indent=1)
        chosen.record.write_text(text + "\n")


class Measured:
    """All rows, from one run."""

    def __init__(self, explorer: Explorer, store: Path, folder: Path, seed: int, keys: int):
        self.explorer, self.store, self.folder, self.keys = explorer, store, folder, keys
        self.random = random.Random(seed)
        self.loader = Loader()
        self.units: list[float] = []
        self.painted: list[float] = []
        self.panels = set(self.explorer.panels)

    def all(self) -> list[str]:
        """Measure; the lines to print."""
        self.unit()
        with served(self.store, self.folder) as address:
            first = [self.first_page(address) for _ in range(5)]
            self.unit()
            quiet = self.session(address, self.keys)
            self.unit()
            with busy(address, self.panels):
                patched = self.session(address, self.keys)
            self.unit()
            held = self.held(address)
            patching = self.patching(address)
            self.unit()
        file = self.file()
        self.unit()
        u = statistics.median(self.units)
        key = statistics.median(quiet)
        most = max(40.0, 12 * u)
        rows = [
            line("one forward pass with patterns, after a pause: u", self.units, u),
            line(f"{len(quiet)} keys, `dtx app`", quiet, u, most, 2.5 * most),
            line(f"{len(patched)} keys while path patching runs", patched, u, 2 * key),
        ]
        if file:
            rows.append(line(f"{len(file)} keys, the one file", file, u, max(20.0, 6 * u)))
        seconds, size = statistics.median(t for t, _ in first), first[0][1]
        return [
            about(self.explorer, self.loader),
            "",
            "| what | median (ms) | p95 (ms) | in u | allowed |",
            "|---|--:|--:|--:|---|",
            *rows,
            "",
            f"- first page: {seconds:.0f} ms, {size / 1000:.0f} kB (allowed: 1,000 ms, 250 kB)",
            f"- from drawn to painted: {statistics.median(self.painted):.0f} ms",
            f"- {held}",
            f"- {patching}",
        ]

    def unit(self, count: int = 20) -> None:
        """One bare forward pass with patterns after a pause, some times."""
        asked = self.explorer.understood({"actions": "l" * LONGEST})
        moment = next(iter(self.explorer.moments(asked, self.loader)))
        for i in range(count + 3):
            time.sleep(PAUSE)
            start = time.perf_counter()
            forward(moment)
            if i >= 3:
                self.units.append(1e3 * (time.perf_counter() - start))

    def first_page(self, address: str) -> tuple[float, int]:
        """Time (ms) until the first scene is drawn in a fresh browser, and the bytes of all that came."""
        with tab(WATCH) as page:
            sizes: list[int] = []
            page.on("requestfinished", lambda r: sizes.append(r.sizes()["responseBodySize"]))
            page.goto(address)
            until(page, "window.first !== undefined")
            page.wait_for_timeout(300)
            return page.evaluate("window.first"), sum(sizes)

    def session(self, address: str, keys: int) -> list[float]:
        """Times (ms) of single keys after pauses."""
        with tab(WATCH) as page:
            page.goto(address)
            drawn(page)
            letters = 0
            for i in range(keys + 10):
                key = "r" if letters >= LONGEST else self.random.choice(["ArrowLeft", "ArrowRight"])
                letters = 0 if key == "r" else letters + 1
                if i == 10:  # by then all is loaded and compiled
                    page.evaluate("window.times.length = 0")
                before = page.evaluate("window.times.length")
                time.sleep(PAUSE)
                page.keyboard.press(key)
                until(page, f"window.times.length > {before}")
            times = page.evaluate("window.times")
        self.painted.append(statistics.median(painted - drawn for drawn, painted in times))
        return [drawn for drawn, _ in times]

    def held(self, address: str, seconds: float = 3.0) -> str:
        """A key that is held: the last picture is the last scene's."""
        with tab() as page:
            page.goto(address)
            drawn(page)
            end, presses = time.monotonic() + seconds, 0
            while time.monotonic() < end:
                page.keyboard.down("ArrowLeft")
                presses += 1
                time.sleep(1 / 33)
            page.keyboard.up("ArrowLeft")
            time.sleep(0.5)
            drawn(page)
            last, shown = page.evaluate("[location.hash, document.documentElement.dataset.drawn]")
        actions = re.search(r"&a=(l+)", last)
        steps = len(actions[1]) if actions else 0
        right = last == shown and steps > 0
        return (
            f"a key held for {seconds:g} s: {presses} presses, {steps} steps; the last picture "
            f"{'is' if right else 'IS NOT'} the last scene's"
        )

    def patching(self, address: str) -> str:
        """Patching asked for by the page's own engine, beside the function called here."""
        if "patching" not in self.panels:
            return "patching: there is no such panel"
        through, direct = [], []
        with tab() as page:
            page.goto(address)
            drawn(page)
            page.wait_for_timeout(1000)
            for i in range(7):
                scene = PATCHED | {"reward_to_go": 0.5 + i / 100}
                start = time.perf_counter()
                panel = OpenPanel("patching", {})
                *_, _ = self.explorer.long(scene, panel, self.loader, lambda: False)
                direct.append(1e3 * (time.perf_counter() - start))
                through.append(
                    page.evaluate(
                        """async (scene) => {
                          const engine = new (await import("./server.js")).Server();
                          const begun = performance.now();
                          const answer = await engine.long(scene, {name: "patching", parameters: {}});
                          if (!answer.panels.patching[0].data) throw new Error(JSON.stringify(answer));
                          return performance.now() - begun;
                        }""",
                        scene,
                    )
                )
        there, here = (statistics.median(times[1:]) for times in (through, direct))
        return (
            f"patching: {there:.0f} ms through the page, {here:.0f} ms the function called directly: "
            f"{there / here:.2f} times (allowed: 1.3)"
        )

    def file(self) -> list[float]:
        """Times of single keys in the one file, opened from disk."""
        path = self.folder / "explorer.html"
        command = [sys.executable, "-m", "dtx", "app", f"--store={self.store}", "--scene=#1"]
        done = subprocess.run(
            [*command, f"--save={path}"], cwd=self.folder, env=environment(), capture_output=True
        )
        if done.returncode:
            print(f"the one file: {done.stderr.decode().strip()}")
            return []
        return self.session(path.as_uri(), self.keys)


@torch.no_grad()
def forward(moment: Moment) -> None:
    """One pass that keeps the patterns, without anything of the explorer."""
    moment.model.run_with_cache(
        moment.original.context, names_filter=lambda name: name.endswith("hook_pattern")
    )


def environment() -> dict[str, str]:
    """Of a command that runs this dtx."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300"}


@contextlib.contextmanager
def served(store: Path, folder: Path) -> Iterator[str]:
    """`dtx app` as a user starts it; gives its address."""
    command = [sys.executable, "-m", "dtx", "app", "--no-browser", f"--port={free_port()}"]
    process = subprocess.Popen(
        [*command, f"--store={store}"],
        cwd=folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        for text in process.stderr:
            if found := re.match(r"explorer: (\S+)", text):
                time.sleep(2)  # it loads what the first page needs
                yield found[1]
                break
        else:
            raise RuntimeError("dtx app did not start")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@contextlib.contextmanager
def busy(address: str, panels: set[str]) -> Iterator[None]:
    """The long lane works on path patching all the time."""
    over = threading.Event()
    done: list[int] = []

    def again() -> None:
        for i in range(1_000_000):
            if over.is_set():
                return
            panel = {"name": "path_patching", "parameters": {"tokens": "each"}}
            scene = PATCHED | {"reward_to_go": 0.3 + i / 1e6}
            request = urllib.request.Request(
                f"{address}long",
                json.dumps({"scene": scene, "panel": panel}).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=120) as answer:
                done.append(len(answer.read()))

    if "path_patching" not in panels:
        print("path patching: there is no such panel; the other lane is idle")
        yield
        return
    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        print(f"path patching ran {len(done)} times meanwhile")


def until(page: Any, condition: str) -> None:
    """Wait until an expression is true: Playwright's own way is refused by the page's policy."""
    page.evaluate(
        f"""new Promise((resolve) => {{
          const look = () => (({condition}) ? resolve() : setTimeout(look, 2));
          look();
        }})"""
    )


def drawn(page: Any) -> None:
    """Wait until a scene is drawn."""
    until(page, "document.documentElement.dataset.drawn !== undefined")


def line(
    what: str, times: list[float], u: float, most: float | None = None, p95: float | None = None
) -> str:
    """A row of the table; what is over its limit is marked."""
    middle = statistics.median(times)
    high = statistics.quantiles(times, n=20)[-1]
    allowed = []
    if most is not None:
        allowed.append(f"median {most:.0f}{'' if middle <= most else ' **exceeded**'}")
    if p95 is not None:
        allowed.append(f"p95 {p95:.0f}{'' if high <= p95 else ' **exceeded**'}")
    return f"| {what} | {middle:.1f} | {high:.1f} | {middle / u:.1f} | {', '.join(allowed)} |"


def about(explorer: Explorer, loader: Loader) -> str:
    """The model that was measured."""
    asked = explorer.understood({})
    moment = next(iter(explorer.moments(asked, loader)))
    cfg = moment.cfg
    return (
        f"{asked.subjects[0].chosen.entry.title}: {cfg.n_layers} layers, d_model {cfg.d_model}, "
        f"{cfg.n_heads} heads, windows of up to {cfg.n_ctx} tokens"
    )


if __name__ == "__main__":
    main()
