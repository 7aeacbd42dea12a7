"""Trains all dictionaries of a stage together: one pass over the stored rows feeds them all.

Each dictionary is what it would be if it were trained alone, to the bit: those with the same seed share the
rows of every step, and nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.activations.stored import Part
from dtx.dictionary.dictionary_stage import SparseStage
from dtx.dictionary.measure import Measured
from dtx.dictionary.networks.network import Network, Planned, Schedule
from dtx.dictionary.rows import Passes, Scale, Weights, require_distinct
from dtx.dictionary.spec import How
from dtx.dictionary.tasks import Task
from dtx.dictionary.trained import COLUMNS, TABLE, name_of
from dtx.errors import UserError
from dtx.progress import progress
from dtx.report import Report
from dtx.training.fit import fit
from dtx.training.resumable import ResumableModule
from dtx.training.threads import one_thread

POINTS = 100
"""Of a curve, about."""
Kind = Callable[[Planned, Schedule, int, int], Network]
"""A class of networks, or one with its own settings: arguments are those of :class:`Network`."""


def train(stage: SparseStage, kind: Kind, out: Path, task: Task | None = None) -> None:
    """Train, measure on the held-out rows, and write the artefact.

    Args:
        stage: The settings.
        kind: What is trained.
        out: Folder of the artefact; a checkpoint there is gone on from.
        task: What dictionaries read and give; None: an autoencoder of each hook.

    Raises:
        UserError: There are too few rows, a loss is not finite, or all features of a dictionary are dead.
    """
    task, report = task or Task(stage.activations.load()), Report(out)
    stored = task.stored
    weights = Weights.of(stored, stage.held_out)
    hooks = tuple(dict.fromkeys(h for part in stage.parts for h in (part, task.given(part))))
    for hook in stage.parts:
        require_distinct(stored, hook, weights, max(stage.width))
    scales = {hook: Scale.of(stored, hook, weights, stage.normalise) for hook in hooks}
    networks = [_network(stage, kind, planned, task) for planned in plans(stage)]
    passes = {seed: Passes(stored, hooks, weights, stage.batch_size, seed) for seed in stage.seeds}
    module = DictionaryModule(stage, networks, passes, scales, task, report)
    with one_thread():
        fit(
            module,
            out,
            stage.steps,
            name=stage.name,
            unit="rows",
            amount=stage.batch_size,
            checkpoint_every=stage.checkpoint_every,
            note=module.note,
        )
        _conclude(stage, networks, scales, task, out)


def plans(stage: SparseStage) -> list[Planned]:
    """All dictionaries of a stage, in the order of its settings."""
    settings = (stage.parts, stage.width, stage.sparsities, stage.seeds, stage.how)
    return [
        Planned(name_of(hook, width, sparsity, seed, how.value), hook, width, sparsity, seed, how)
        for hook, width, sparsity, seed, how in itertools.product(*settings)
    ]


def _network(stage: SparseStage, kind: Kind, planned: Planned, task: Task) -> Network:
    schedule = Schedule(stage.revive, stage.dead_after, stage.warm_up)
    widths = task.stored.hooks
    return kind(planned, schedule, widths[planned.hook], widths[task.given(planned.hook)])


class DictionaryModule(ResumableModule):
    """One optimisation step of all dictionaries a call.

    Args:
        stage: The settings.
        networks: What is trained.
        passes: Rows by seed.
        scales: Of each hook.
        task: What dictionaries give.
        report: Where curves go.
    """

    def __init__(
        self,
        stage: SparseStage,
        networks: Sequence[Network],
        passes: dict[int, Passes],
        scales: dict[str, Scale],
        task: Task,
        report: Report,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.stage, self.passes, self.scales = stage, passes, scales
        self.task, self.report = task, report
        self.networks = torch.nn.ModuleList(networks)
        self._every = max(1, stage.steps // POINTS)
        self._last = ""

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for each dictionary; the learning rate is set at every step."""
        rate = self.stage.learning_rate
        return [
            torch.optim.Adam([p for p in network.parameters() if p.requires_grad], rate, fused=True)
            for network in self.networks
        ]

    def training_step(self, step: int, _: int) -> None:
        """A batch of each seed, and a step of each dictionary on it."""
        optimizers = self.optimizers(use_pl_optimizer=False)
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        rate = self.stage.learning_rate * rate_share(
            step, self.stage.steps, self.stage.warm_up, self.stage.decay
        )
        scaled: dict[tuple[int, str], Tensor] = {}
        batches = {seed: passes.batch(step) for seed, passes in self.passes.items()}
        for network, optimizer in zip(self._all, optimizers, strict=True):
            assert isinstance(optimizer, torch.optim.Optimizer)
            planned, batch = network.planned, batches[network.planned.seed]
            ends = planned.hook, self.task.given(planned.hook)
            for hook in ends:
                if (planned.seed, hook) not in scaled:
                    scaled[planned.seed, hook] = self.scales[hook](batch.x[hook])
            x, y = (scaled[planned.seed, hook] for hook in ends)
            loss = network.gradients(x, y, batch.weight, step)
            if not np.isfinite(loss):
                raise UserError(
                    f"{planned.name}: the loss is not finite at step {step}: choose a lower "
                    f"dictionary.learning_rate (it is {self.stage.learning_rate:g})"
                )
            network.before()
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            network.after()
        done = step + 1
        if done % self._every == 0 or done == self.stage.steps:
            self._show(done)

    @property
    def _all(self) -> list[Network]:
        return [network for network in self.networks if isinstance(network, Network)]

    def _show(self, done: int) -> None:
        """A point of the curves: means over dictionaries that are trained whole, and each one's own."""
        values: dict[str, list[float]] = {}
        own: dict[str, float] = {}
        chosen = [n for n in self._all if n.planned.how is How.trained] or self._all
        for network in self._all:
            dead = float(network.dead(done).double().mean())
            if dead == 1:
                raise UserError(_all_dead(self.stage, network.planned, done))
            for name, value in {**network.taken(), "dead_share": dead}.items():
                own[f"{network.planned.name}/{name}"] = value
                if network in chosen:
                    values.setdefault(name, []).append(value)
        means = {f"dictionary/{name}": float(np.mean(of)) for name, of in values.items()}
        self.report.curve(done, {**means, **(own if len(self._all) > 1 else {})})
        self._last = f"explained variance {means['dictionary/explained_variance']:.3f}"

    def note(self) -> str:
        """End of the progress bar."""
        return self._last


def rate_share(step: int, steps: int, warm_up: int, decay: float) -> float:
    """Share of the learning rate at a step: rising over ``warm_up`` steps, falling to 0 at the end."""
    rising = min(1.0, (step + 1) / (warm_up + 1))
    falling = (steps - step) / max(1.0, decay * steps)
    return min(rising, falling, 1.0)


def _all_dead(stage: SparseStage, planned: Planned, step: int) -> str:
    return (
        f"{planned.name}: all {planned.width} features are dead at step {step}: none was on in the last "
        f"{stage.dead_after} steps; choose a lower dictionary.learning_rate (it is {stage.learning_rate:g}), "
        f"or another dictionary.{stage.sparsity_field} (it is {planned.sparsity:g})"
    )


def _conclude(
    stage: SparseStage,
    networks: Sequence[Network],
    scales: dict[str, Scale],
    task: Task,
    out: Path,
) -> None:
    """Write the files, the table of numbers on held-out rows, and the headline."""
    rows = task.stored.rows(stage.held_out.value, Part.HELD_OUT)
    if not len(rows):
        raise UserError(
            f"dictionary.held_out: no rows to measure on in the split by {stage.held_out.value}"
        )
    lines: list[dict[str, Any]] = []
    with progress(f"{stage.name}: held-out rows", len(networks), "dictionaries") as bar:
        for network in networks:
            planned = network.planned
            measured, more = task.written(network, scales, rows, out / planned.name)
            lines.append({**_line(planned, measured), **more})
            bar.advance()
    frame = pd.DataFrame(lines)
    report = Report(out)
    report.table(TABLE, frame)
    whole = frame[frame["how"] == How.trained.value]
    chosen = whole if len(whole) else frame
    names = ("explained_variance", "l0", "dead_share")
    means = {f"dictionary/{name}": float(chosen[name].mean()) for name in names}
    report.headline({**means, "dictionary/count": float(len(frame))})


def _line(planned: Planned, measured: Measured) -> dict[str, Any]:
    numbers = {
        "l0": measured.l0,
        "explained_variance": measured.explained_variance,
        "dead_share": measured.dead_share,
        "loss": measured.loss,
    }
    settings = (
        planned.name,
        planned.hook,
        planned.width,
        float(planned.sparsity),
        planned.seed,
        planned.how.value,
    )
    return {**dict(zip(COLUMNS, settings, strict=True)), **numbers}
