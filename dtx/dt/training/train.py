"""Train a Decision Transformer, in one process or in several that share every batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from dtx.dt import model as models
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.training.module import DecisionTransformerModule
from dtx.dt.training.spec import Precision, TrainingSpec
from dtx.dt.windows import Sampler
from dtx.errors import UserError
from dtx.report import Report
from dtx.training.fit import fit
from dtx.training.ranks import ALONE, Rank, train_together
from dtx.training.threads import one_thread
from dtx.training.trainer import Accelerator


def train(spec: TrainingSpec, out: Path) -> None:
    """Run the stage: train from ``out``'s last checkpoint on, and write the model."""
    chosen = spec.trainer
    if chosen.accelerator is Accelerator.gpu and torch.cuda.device_count() < chosen.devices:
        raise UserError(
            f"dt.trainer: {chosen.devices} GPU(s) are wanted and {torch.cuda.device_count()} are here; "
            "use fewer trainer.devices or trainer.accelerator=cpu"
        )
    if not chosen.parallel:
        train_rank(ALONE, spec, out)
        return
    backend = "nccl" if chosen.accelerator is Accelerator.gpu else "gloo"
    train_together(chosen.devices, backend, train_rank, spec, out)


def train_rank(rank: Rank, spec: TrainingSpec, out: Path) -> None:
    """What each process does. Rank 0 writes the files."""
    episodes = spec.demonstrations()
    cfg = spec.model_config()
    achieved = spec.achieved()
    sampler = Sampler(episodes, cfg, spec.windows, 0, achieved)
    cfg.half_products = half_products(spec.precision, spec.trainer.accelerator)
    network = DecisionTransformerModel(cfg)
    models.initialise(
        network, spec.initialisation.matrix_std, spec.initialisation.embedding_std, spec.seed
    )
    if spec.initialisation.centre_state:
        models.centre_state(network, sampler.mean_one_hot())
    report = Report(out)
    validation = None
    if (np.asarray(episodes.split) == 1).any():
        validation = Sampler(episodes, cfg, spec.windows, 1, achieved)
    module = DecisionTransformerModule(spec, network, sampler, validation, report, rank)
    (out / "checkpoints").mkdir(exist_ok=True)
    if spec.kept_checkpoints and rank.first:
        module.keep(0)
    with one_thread():
        fit(
            module,
            out,
            spec.steps,
            name="dt",
            unit="windows",
            amount=spec.batch_size,
            checkpoint_every=spec.checkpoint_every,
            note=module.note,
            accelerator=spec.trainer.accelerator.value,
            rank=rank,
        )
        if rank.first:
            models.save(network, out)
            report.headline(module.headline())


def half_products(precision: Precision, accelerator: Accelerator = Accelerator.cpu) -> bool:
    """Whether training's matrix products take bfloat16 factors on this machine."""
    if precision is Precision.auto and accelerator is Accelerator.gpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if precision is Precision.auto:
        return bool(torch.cpu._is_avx512_bf16_supported())
    return precision is Precision.bfloat16
