"""Speed of storing activations beside the bare forward pass, and the memory of ten million vectors.

    python benchmarks/activations.py           # a few minutes; --quick: a tenth of it

One run prints both. Weights and demonstrations are drawn: speed does not depend on them. The bare pass goes
over the same windows in batches of equal length, without hooks, on one thread; CPU-seconds are
counted, so that ratios hold on a busy machine. The vectors are written and read in a process of their own,
whose largest resident memory is told.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

from dtx.activations.caching import Reader, batches, cache
from dtx.activations.prefixes import Contents, Rows, WindowList, rows_of, windows_of
from dtx.activations.spec import Numbers
from dtx.activations.stored import Activations
from dtx.config.compose import build_group
from dtx.dataset.dataset import Dataset
from dtx.dataset.episodes import Episodes
from dtx.dt.decision_transformer import DecisionTransformer
from dtx.dt.model import DecisionTransformerModel, initialise

HOOK, WIDTH = "blocks.2.hook_resid_post", 256
VECTORS = 10_000_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of windows and vectors")
    parser.add_argument("--vectors", type=int, help="only write and read so many, in this process")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.vectors:
        write_and_read(chosen.vectors)
        return
    part = 10 if chosen.quick else 1
    print("| windows | tokens passed | rows | bare pass, s | stored, s | share of the bare speed |")
    print("|---|---|---|---|---|---|")
    for name, steps, count in (("whole episodes", 50, 12_000), ("9 steps", 9, 24_000)):
        print(speed(name, steps, count // part), flush=True)
    subprocess.run([sys.executable, __file__, "--vectors", str(VECTORS // part)], check=True)


def drawn(count: int, horizon: int = 50) -> Episodes:
    """Episodes of random actions and views, a third as long as the time limit."""
    rng = np.random.default_rng(0)
    length = np.where(np.arange(count) % 3 == 2, horizon, rng.integers(4, 20, count))
    length = length.astype(np.int32)
    start = np.cumsum(length) - length
    total, views = int(length.sum()), 96
    observations = np.zeros((views, 7, 7, 3), np.uint8)
    observations[..., 0] = rng.integers(0, 11, (views, 7, 7))
    return Episodes(
        observations=observations,
        observation=rng.integers(0, views, total).astype(np.int32),
        action=rng.integers(0, 7, total).astype(np.uint8),
        reward=np.zeros(total, np.float32),
        start=start.astype(np.int64),
        length=length,
        outcome=np.full(count, 2, np.uint8),
        temperature=np.ones(count, np.float32),
        split=np.zeros(count, np.uint8),
    )


def speed(name: str, steps: int, count: int) -> str:
    """A line of the table."""
    cfg = dataclasses.replace(build_group("dt/memory_dt", []).model_config(), n_steps=steps)
    model = DecisionTransformerModel(cfg).eval()
    initialise(model, None, 0.15, 0)
    for block in model.blocks:
        block.attn.lay_flat()
    data = drawn(count)

    def plan() -> tuple[Reader, Rows]:
        windows = windows_of(data, cfg, None, 1, 0)
        held = np.zeros(count, bool)
        return Reader(data, cfg), rows_of(Contents(data, cfg), windows, held, tuple("RSA"), 0)

    begin = time.process_time()
    reader, rows = plan()
    planned = time.process_time() - begin
    contexts = [reader.context(windows) for windows in by_length(rows, cfg.layout.per_step)]
    tokens = sum(c.shape.numel() for c in contexts)

    def bare() -> None:
        with torch.inference_mode():
            for context in contexts:
                model(context)

    def stored() -> None:
        with tempfile.TemporaryDirectory() as out:
            cache(model, reader, rows, {HOOK: WIDTH}, Numbers.float16, Path(out))

    seconds = [(timed(bare)[1], planned + timed(stored)[1]) for _ in range(2)]
    plain, whole = (min(values) for values in zip(*seconds, strict=True))
    share = plain / whole
    return f"| {name} | {tokens:,} | {len(rows):,} | {plain:.1f} | {whole:.1f} | {share:.2f} |"


def timed(work: Callable[[], object]) -> tuple[object, float]:
    """What it gives, and CPU-seconds."""
    begin = time.process_time()
    return work(), time.process_time() - begin


def by_length(rows: Rows, per_step: int) -> Iterator[WindowList]:
    """All windows that are passed, in batches as large as they may be."""
    for some in batches(rows.windows, per_step):
        yield rows.windows[some]


@dataclass(frozen=True, kw_only=True)
class Drawn(Dataset):
    """Random demonstrations; nothing is stored."""

    count: int

    def load(self) -> Episodes:
        """Drawn again."""
        return drawn(self.count)


@dataclass(frozen=True, kw_only=True)
class Fresh(DecisionTransformer):
    """A model with random weights; nothing is stored."""

    def load(self) -> DecisionTransformerModel:
        """Drawn again."""
        model = DecisionTransformerModel(self.model_config()).eval()
        initialise(model, None, 0.15, self.seed)
        return model


def write_and_read(vectors: int) -> None:
    """The whole stage on so many vectors, one pass over them in batches, and the memory of it all.

    The embedding is stored: what is measured are the rows, not the blocks.
    """
    dataset = Drawn(count=round(vectors / 67.5))  # rows of an episode
    dt = build_group("dt/memory_dt", [])
    fields = {f.name: getattr(dt, f.name) for f in dataclasses.fields(dt)}
    stage = dataclasses.replace(
        build_group("activations/windows", ["activations.hooks=[hook_embed]"]),
        dt=Fresh(**{**fields, "dataset": dataset}),
        dataset=dataset,
    )
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as out:
        begin = time.monotonic()
        stage.run(Path(out))
        wrote = time.monotonic() - begin
        after = peak()
        stored = Activations(Path(out))
        begin, total = time.monotonic(), 0.0
        for x, _ in stored.batches("hook_embed", 4096, passes=1):
            total += float(x[:, 0].sum())
        read = time.monotonic() - begin
        size = sum(p.stat().st_size for p in Path(out).iterdir() if p.is_file())
    print(
        f"\n{len(stored):,} vectors of {stored.hooks['hook_embed']}, {size / 1e9:.1f} GB: written in "
        f"{wrote:.0f} s, read in {read:.0f} s in random batches; largest resident memory {after:.0f} MB "
        f"after writing, {peak():.0f} MB after reading"
    )


def peak() -> float:
    """Largest resident memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
