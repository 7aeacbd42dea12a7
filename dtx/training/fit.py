"""Train a Lightning module for a number of steps, with a progress bar and exact resume.

Batches are step numbers: a module computes its batch from (seed, step), so that a resumed run sees
the batches of an uninterrupted one. Lightning's own mid-epoch resume is not used: it restores its loops,
not the data's order, and its checkpoints need unpickling of arbitrary objects.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Packed batches have ever new shapes; the kernels kept for each (1,024 by default) grow to gigabytes.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")

import numpy as np
import pytorch_lightning as lightning
import torch
from lightning_fabric.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from rich.markup import escape

from dtx.files import read_torch
from dtx.progress import Bar, console
from dtx.report import CURVES, Report, sync_folder
from dtx.stage import CHECKPOINT
from dtx.store.checksums import checksum
from dtx.text import first_line
from dtx.training.ranks import ALONE, Rank, SentBar
from dtx.training.resumable import ResumableModule


class Steps(torch.utils.data.IterableDataset):
    """The step numbers ``start ... stop - 1``; ``start`` moves when a run is resumed."""

    def __init__(self, stop: int):
        self.start, self.stop = 0, stop

    def __iter__(self):
        return iter(range(self.start, self.stop))

    def __len__(self) -> int:
        return self.stop - self.start


def fit(
    module: ResumableModule,
    out: Path,
    steps: int,
    *,
    name: str,
    unit: str,
    amount: int,
    checkpoint_every: int,
    note: Callable[[], str] = lambda: "",
    shown: int | None = None,
    accelerator: str = "cpu",
    rank: Rank = ALONE,
) -> None:
    """Train ``module`` for ``steps`` steps, from ``out/resume.ckpt`` on if it exists.

    Args:
        module: Its ``training_step`` gets the step number.
        out: Folder of the artefact.
        steps: At most so many; ``module.finished()`` ends earlier.
        name: Stage name on the progress bar.
        unit: What the bar counts: ``frames``, ``windows``.
        amount: Units in a step.
        checkpoint_every: Steps between checkpoints.
        note: Short text at the end of the bar.
        shown: Steps of a full bar, when a run usually ends before ``steps``.
        accelerator: ``cpu`` or ``gpu``. Models this small are bound by launches on a GPU.
        rank: Which of the processes of :func:`dtx.training.ranks.train_together` this is. Their gradients are
            averaged, and rank 0 writes the checkpoints.

    A checkpoint that cannot be read, as a power cut may leave one, is set aside, and training starts over;
    so it does if a file that the checkpoint goes on from has changed.

    The last state stays in ``out`` as well, so that a run killed after training (while it measures or
    writes) does not train again; the runner takes it away when the stage is committed.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # no notes on devices or tips
    data = Steps(steps)
    path = out / CHECKPOINT
    with rank.progress(name, (shown or steps) * amount, unit) as bar, warnings.catch_warnings():
        # Lightning advises more loader workers and a `val_dataloader`; a step number needs neither.
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        state = _read(path, rank)
        if state is not None:
            data.start = state["step"]
        trainer = lightning.Trainer(
            accelerator=accelerator,
            devices=rank.count,
            strategy="auto" if rank.alone else DDPStrategy(),
            plugins=[LightningEnvironment()],  # not SLURM's: it would queue the job again by itself
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            callbacks=[
                _Resume(path, data, state, checkpoint_every, Report(out), rank),
                _Show(bar, data, amount, note),
            ],
        )
        if state is not None and state["done"]:
            _restore(module, state, Report(out), rank)
        elif steps:
            trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=None))


def _read(path: Path, rank: Rank) -> dict | None:
    """The state in a checkpoint; None if there is none, or none that can be read."""
    try:
        state = read_torch(path, path.name)
        if not isinstance(state, dict) or (lacks := _STATE - state.keys()):
            raise ValueError(
                f"it lacks {', '.join(sorted(lacks))}" if isinstance(state, dict) else "no state"
            )
        _require_same(path.parent, state)
    except FileNotFoundError:
        return None
    except Exception as error:  # torch raises many kinds for a damaged file
        if rank.first:
            path.replace(path.with_name(f"{path.name}.damaged.partial"))  # goes with the commit
            console.print(
                f"[yellow]{escape(path.parent.name)}: the unfinished work is damaged "
                f"({escape(first_line(error)[:120])}); it is set aside, and training starts over[/]"
            )
        return None
    return state


class _Sums:
    """SHA-256 of what a training has written beside its checkpoint and will not write again."""

    def __init__(self, out: Path):
        self.out = out
        self._known: dict[tuple[str, int], str] = {}

    def of(self, position: int) -> dict[str, str]:
        """By name: of the files in folders, which stay as they are, and of ``curves.jsonl`` to a position."""
        sums = {CURVES: _sum_of_curves(self.out, position)}
        for path in filter(Path.is_file, sorted(self.out.glob("*/*"))):
            key = (path.relative_to(self.out).as_posix(), path.stat().st_mtime_ns)
            if key not in self._known:
                self._known[key] = checksum(path)
            sums[key[0]] = self._known[key]
        return sums


def _sum_of_curves(out: Path, position: int) -> str:
    path = out / CURVES
    return hashlib.sha256(path.read_bytes()[:position] if path.exists() else b"").hexdigest()


def _require_same(out: Path, state: dict) -> None:
    """Raise a ValueError if a file that a checkpoint goes on from has changed."""
    for name, digest in state.get("files", {}).items():  # earlier versions noted none
        path = out / name
        found = (
            _sum_of_curves(out, state["position"])
            if name == CURVES
            else checksum(path)
            if path.is_file()
            else ""
        )
        if found != digest:
            raise ValueError(f"{name} is not what was written")


def _restore(module: ResumableModule, state: dict, report: Report, rank: Rank) -> None:
    module.load_state_dict(state["module"])
    module.load_resume_state(state["extra"])
    if rank.first:
        report.rewind(state["position"])
    set_random_state(state["random"])


class _Resume(lightning.Callback):
    """Load a checkpoint at the start and write one, atomically, every so many steps."""

    def __init__(
        self,
        path: Path,
        data: Steps,
        state: dict | None,
        every: int,
        report: Report,
        rank: Rank,
    ):
        self.path, self.data, self.state, self.every = path, data, state, every
        self.report, self.rank = report, rank
        self.sums = _Sums(path.parent)

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        assert isinstance(module, ResumableModule)
        state = self.state
        if state is None:
            if self.rank.first:
                self.report.rewind(0)
            return
        for optimizer, saved in zip(trainer.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for config, saved in zip(trainer.lr_scheduler_configs, state["schedulers"], strict=True):
            config.scheduler.load_state_dict(saved)
        _restore(module, state, self.report, self.rank)
        self.state = None

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        outputs: object,
        batch: int,
        batch_idx: int,
    ) -> None:
        assert isinstance(module, ResumableModule)
        step = batch + 1
        finished = module.finished()
        if finished:
            trainer.should_stop = True
        done = finished or step == self.data.stop
        if (step % self.every and not done) or not self.rank.first:
            return
        partial = self.path.with_suffix(".partial")
        torch.save(
            {
                "step": step,
                "done": done,
                "module": module.state_dict(),
                "optimizers": [o.state_dict() for o in trainer.optimizers],
                "schedulers": [c.scheduler.state_dict() for c in trainer.lr_scheduler_configs],
                "extra": module.resume_state(),
                "position": self.report.position(),
                "random": random_state(),
                "files": self.sums.of(self.report.position()),
            },
            partial,
        )
        with partial.open("rb+") as written:
            os.fsync(written.fileno())
        partial.replace(self.path)
        sync_folder(self.path.parent)


_STATE = {"step", "done", "module", "optimizers", "schedulers", "extra", "position", "random"}
"""What a checkpoint holds."""


class _Show(lightning.Callback):
    """Move the progress bar."""

    def __init__(self, bar: Bar | SentBar, data: Steps, amount: int, note: Callable[[], str]):
        self.bar, self.data, self.amount, self.note = bar, data, amount, note

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        outputs: object,
        batch: int,
        batch_idx: int,
    ) -> None:
        self.bar.move_to((batch + 1) * self.amount, self.note())


def random_state() -> dict[str, Any]:
    """State of torch's, numpy's and Python's global generators, as plain values and tensors."""
    state: Any = np.random.get_state()  # noqa: NPY002
    kind, keys, position, has_gauss, gauss = state
    version, internal, next_gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss],
        "python": [version, list(internal), next_gauss],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore what :func:`random_state` returned."""
    torch.set_rng_state(state["torch"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, internal, next_gauss = state["python"]
    random.setstate((version, tuple(internal), next_gauss))
