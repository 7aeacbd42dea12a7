"""Speed of the patching analyses beside one forward pass a patch, from one run, as a markdown table.

    python benchmarks/patching.py            # a few minutes; --quick: some seconds, a smaller sweep

The weights are fresh: speed does not depend on them, except that training makes no sender agree with itself.
Both sides run on one thread. The baseline runs a random sample of the same patches, one `run_with_hooks` on
one window each, from embedding to logits, and is scaled to their number; both give the same numbers, which
is checked. Ratios hold on a busy machine, since CPU-seconds are counted; wall times do not.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

from dtx.analysis.activation_patching import ActivationPatching
from dtx.analysis.activation_patching.compute import compute as sweep_nodes
from dtx.analysis.core.patching import PairRuns
from dtx.analysis.core.patching_spec import Direction, Node, hook_of
from dtx.analysis.path_patching.sweep import EdgeSweep, wanted
from dtx.config.compose import build_group
from dtx.dt.model import DecisionTransformerModel, initialise
from dtx.dt.paths import matters, outputs, patched
from dtx.pairs.making import make
from dtx.pairs.pair_set import PairSet
from dtx.report import Report

TARGETS = (0.892, 0.7, 0.5, 0.3, 0.1, 0.0)
SAMPLE = 300
"""Single patches of the baseline."""


@dataclasses.dataclass
class Row:
    """A line of the table: CPU-seconds (and wall) of all patches, batched and one by one."""

    work: str
    patches: int
    seconds: float
    wall: float
    single: float
    sampled: int


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="two targets and 60 single patches")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    sample = 60 if chosen.quick else SAMPLE
    stage = build_group("analysis/activation_patching", ["pairs.dataset=null"])
    nodes = (Node.resid_pre, Node.resid_mid, Node.resid_post, Node.mlp_out, Node.z)
    stage = dataclasses.replace(stage, nodes=nodes, directions=(Direction.denoise,))
    targets = TARGETS[::5] if chosen.quick else TARGETS
    model = fresh(chosen.seed)
    rows = [
        node_sweep(stage, model, declared(stage, targets, ("instruction_flip",)), sample),
        edge_sweep(model, declared(stage, stage.pairs.source.reward_to_go, None), sample),
    ]
    show(rows, model, chosen.seed)


def fresh(seed: int) -> DecisionTransformerModel:
    """The default model; left padding makes all windows 26 tokens long."""
    cfg = dataclasses.replace(build_group("dt/memory_dt", []).model_config(), left_padding=True)
    model = DecisionTransformerModel(cfg)
    initialise(model, None, 0.15, seed)
    return model.eval()


def declared(
    stage: ActivationPatching, targets: tuple[float, ...], edits: tuple[str, ...] | None
) -> PairSet:
    """The default pairs in four layouts; with ``edits`` these pairs alone, without their controls."""
    source = dataclasses.replace(stage.pairs.source, reward_to_go=targets)
    with tempfile.TemporaryDirectory(prefix="dtx-bench-") as folder:
        out = Path(folder)
        make(dataclasses.replace(stage.pairs, source=source)).save(out, Report(out))
        made = PairSet.read(out)
    if edits is None:
        return made
    table = made.table[made.table["edit"].isin(edits) & (made.table["kind"] == "edit")]
    about = {**made.about, "edits": list(edits)}
    return dataclasses.replace(made, table=table.reset_index(drop=True), about=about)


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, CPU-seconds and seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    return result, time.process_time() - cpu, time.perf_counter() - wall


def node_sweep(
    stage: ActivationPatching, model: DecisionTransformerModel, pairs: PairSet, sample: int
) -> Row:
    """Every head, MLP and residual point at every token."""
    result, seconds, wall = timed(lambda: sweep_nodes(stage, model, pairs))
    table = result.tables["patches"]
    (batch,) = pairs.batches(model)
    rng = np.random.default_rng(stage.seed)
    chosen = table.iloc[rng.choice(len(table), sample, replace=False)]
    names = sorted({hook_of(row.layer, row.node) for row in chosen.itertuples()})
    with torch.inference_mode():
        _, cache = model.run_with_cache(batch.clean, names_filter=names)
        base = model(batch.corrupt)[:, -1]
    place = {pair: row for row, pair in enumerate(batch.table["pair"])}

    def singly() -> float:
        worst = 0.0
        for patch in chosen.itertuples():
            row, at = place[patch.pair], patch.position
            name = hook_of(patch.layer, patch.node)
            where = (0, at) if patch.head < 0 else (0, at, patch.head)

            def put(value, hook, where=where, new=cache[name][row : row + 1]):
                value[where] = new[where]
                return value

            with torch.inference_mode():
                logits = model.run_with_hooks(batch.corrupt[row], fwd_hooks=[(name, put)])[0, -1]
            change = logits - base[row]
            ld = change[batch.positive[row]] - change[batch.negative[row]]
            worst = max(worst, abs(float(ld) - patch.change))
        return worst

    worst, single, _ = timed(singly)
    assert worst < 1e-4, f"batched and single patches differ by {worst}"
    layouts, targets = pairs.table["variant"].nunique(), pairs.table["reward_to_go"].nunique()
    per = len(table) // (len(batch) * batch.changed.shape[1])
    work = (
        f"activation patching: {per} nodes x {batch.changed.shape[1]} tokens x {layouts} layouts "
        f"x {targets} targets"
    )
    return Row(work, len(table), seconds, wall, single, sample)


@torch.inference_mode()
def edge_sweep(model: DecisionTransformerModel, pairs: PairSet, sample: int) -> Row:
    """Every edge at every token at which it can matter, of all pairs and their controls."""
    stage = build_group("analysis/path_patching", ["pairs.dataset=null"])
    (batch,) = pairs.batches(model)
    runs = PairRuns(model, batch, stage.direction, pairs.min_ld_gap, wanted(model.cfg.n_layers))
    every = np.ones(len(batch), bool)
    sweep, seconds, wall = timed(lambda: EdgeSweep(model, runs, every, stage.at_once, True).run())
    cells = [
        (i, m)
        for i, edge in enumerate(sweep.edges)
        for m in range(sweep.n)
        if matters(model.cfg, edge, m, sweep.n)
    ]
    rng = np.random.default_rng(stage.seed)
    chosen = [
        (cells[i], int(rng.integers(len(batch)))) for i in rng.integers(len(cells), size=sample)
    ]
    source = outputs(model, runs.source)
    activations = [
        {sweep.edges[i].sender: source[sweep.edges[i].sender][[row]]} for (i, _), row in chosen
    ]
    masks = [torch.arange(sweep.n)[None] == m for (_, m), _ in chosen]

    def singly() -> float:
        worst = 0.0
        for ((i, m), row), wrote, mask in zip(chosen, activations, masks, strict=True):
            logits = patched(model, batch.corrupt[row], wrote, [(sweep.edges[i], mask)])[0]
            ld = float(logits[batch.positive[row]] - logits[batch.negative[row]])
            worst = max(worst, abs(ld - runs.base_ld[row] - sweep.change[i, m, row]))
        return worst

    worst, single, _ = timed(singly)
    assert worst < 1e-4, f"batched and single edges differ by {worst}"
    work = f"path patching: {len(sweep.edges)} edges x {sweep.n} tokens x {len(batch)} pairs"
    return Row(work, len(cells) * len(batch), seconds, wall, single, sample)


def show(rows: list[Row], model: DecisionTransformerModel, seed: int) -> None:
    """Print the table."""
    cfg = model.cfg
    print(
        f"{cfg.n_layers} layers, d_model {cfg.d_model}, {cfg.n_heads} heads, one thread, fresh weights, "
        f"seed {seed}; the baseline is a random sample of the same patches, scaled\n"
    )
    print("| work | patches | CPU-s (s) | patches per CPU-s | one forward a patch | ratio |")
    print("|---|--:|--:|--:|--:|--:|")
    for row in rows:
        rate, base = row.patches / row.seconds, row.sampled / row.single
        print(
            f"| {row.work} | {row.patches:,} | {row.seconds:.1f} ({row.wall:.1f}) | {rate:,.0f} | "
            f"{base:,.0f}/CPU-s: {row.patches / base:,.0f} CPU-s ({row.sampled} timed) | {rate / base:.1f}x |"
        )


if __name__ == "__main__":
    main()
