"""Run in SAELens's environment: their files and ours read by both, and the same rows trained by both.

``python -m tests.dictionary.in_sae_lens FOLDER`` prints a line with what it found; see test_sae_lens.py.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

import dataclasses
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dtx.activations.stored import Activations, Part
from dtx.dictionary.autoencoder import TRANSCODERS, SparseAutoencoder
from dtx.dictionary.measure import measure
from dtx.dictionary.sae_files import read, write
from dtx.store.store import Store, used
from tests.dictionary import training
from tests.dictionary.test_sae_files import HOOK, VARIANTS, variant
from tests.dt.test_model import build, contexts

TRAINED = "blocks.1.hook_resid_post"
WIDTH, K, STEPS, BATCH, RATE = 32, 4, 2000, 256, 3e-3
KINDS = ("topk", "batch_topk", "matryoshka", "standard", "gated", "jump_relu", "transcoder")


def main(out: Path) -> None:
    """Do everything."""
    import sae_lens

    found: dict[str, Any] = {"version": sae_lens.__version__, "files": files(out / "files")}
    found["training files"] = training_files(out / "training")
    with used(Store(out / "store")) as store:
        found["explained variance"] = {}
        what = training.stage(
            f"width=[{WIDTH}]", f"k=[{K}]", f"steps={STEPS}", f"batch_size={BATCH}"
        )
        what = dataclasses.replace(what, learning_rate=RATE, decay=0.5)
        training.make(store, what)
        stored = what.activations.load()
        rows = stored.rows("prefix", Part.HELD_OUT)
        theirs = trained_there(stored, out / "trained")
        (name,) = what.load()
        for who, sae in (("SAELens", theirs), ("dtx", what.load()[name])):
            numbers = measure(sae, stored, rows)
            found["explained variance"][who] = numbers.explained_variance
            found.setdefault("l0", {})[who] = numbers.l0
        found["spliced"] = spliced(theirs)
        found["kinds"] = {kind: of_kind(store, kind, stored) for kind in KINDS}
    print("RESULT", json.dumps(found))


def files(out: Path) -> float:
    """Random dictionaries of all architectures: largest difference between theirs and ours."""
    from sae_lens import SAE

    worst, x = 0.0, torch.randn(50, 16)
    for i, (architecture, changes) in enumerate(VARIANTS):
        ours = variant(architecture, changes)
        write(ours, out / str(i))
        theirs = SAE.load_from_disk(out / str(i))
        heads = ours.hook_name.endswith("hook_z") and architecture not in TRANSCODERS
        seen = x.unflatten(-1, (2, 8)) if heads else x
        worst = max(worst, apart(ours.encode(x), theirs.encode(seen)))
        worst = max(worst, apart(ours.reconstruct(x), theirs(seen).reshape(50, 16)))
        theirs.save_model(out / f"{i}-theirs")
        again = read(out / f"{i}-theirs")
        assert (again.hook_name, again.hook_out) == (ours.hook_name, ours.hook_out)
        assert torch.equal(again.encode(x), ours.encode(x)), architecture
    return worst


def training_files(out: Path) -> float:
    """Unfinished trainings by a batch's threshold, read here as what SAELens saves of them."""
    from sae_lens import (
        SAE,
        BatchTopKTrainingSAE,
        BatchTopKTrainingSAEConfig,
        MatryoshkaBatchTopKTrainingSAE,
        MatryoshkaBatchTopKTrainingSAEConfig,
    )
    from sae_lens.saes.sae import SAEMetadata

    worst, x = 0.0, torch.randn(50, 16)
    shared = {"d_in": 16, "d_sae": 40, "k": 5, "metadata": SAEMetadata(hook_name=HOOK)}
    plain = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**shared))
    levels = MatryoshkaBatchTopKTrainingSAEConfig(**shared, matryoshka_widths=[10, 40])
    for name, sae in (("plain", plain), ("levels", MatryoshkaBatchTopKTrainingSAE(levels))):
        with torch.no_grad():
            sae.b_enc.normal_(0, 0.05)
            sae.b_dec.normal_(0, 0.05)
            sae.W_dec.mul_(torch.rand(40, 1) + 0.5)
            sae.topk_threshold.fill_(0.02)
        sae.save_model(out / f"{name}-training")
        sae.save_inference_model(out / name)
        theirs = SAE.load_from_disk(out / name)
        for folder in (out / name, out / f"{name}-training"):
            ours = read(folder)
            worst = max(worst, apart(ours.encode(x), theirs.encode(x)))
            worst = max(worst, apart(ours.reconstruct(x), theirs(x)))
            assert ours.levels == ((10, 40) if name == "levels" else (40,))
            assert ours.encode(x).any()
    return worst


def trained_there(stored: Activations, out: Path) -> SparseAutoencoder:
    """A TopK dictionary by SAELens's trainer: rows are drawn as often as they occur."""
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.training.sae_trainer import SAETrainer

    torch.manual_seed(0)
    rows = stored.rows("prefix", Part.TRAIN)
    x = torch.from_numpy(np.asarray(stored.array(TRAINED)[rows], np.float32))
    chance = stored.columns["count"][rows] / stored.columns["count"][rows].sum()

    def batches() -> Iterator[torch.Tensor]:
        rng = np.random.default_rng(0)
        while True:
            yield x[rng.choice(len(x), BATCH, p=chance)]

    config = TopKTrainingSAEConfig(
        d_in=16,
        d_sae=WIDTH,
        k=K,
        normalize_activations="none",
        metadata=SAEMetadata(hook_name=TRAINED),
    )
    sae = TopKTrainingSAE(config)
    settings = SAETrainerConfig(
        total_training_samples=BATCH * STEPS,
        train_batch_size_samples=BATCH,
        lr=RATE,
        lr_end=RATE / 10,
        lr_decay_steps=STEPS // 2,
        lr_warm_up_steps=50,
        logger=LoggingConfig(log_to_wandb=False),
    )
    SAETrainer(cfg=settings, sae=sae, data_provider=batches()).fit()
    sae.save_inference_model(out)
    ours = read(out)
    assert apart(ours.reconstruct(x), sae(x)) < 1e-4
    return ours


def spliced(sae: SparseAutoencoder) -> float:
    """How far the error term leaves the logits of a model from its own."""
    stage, network = build()
    context = contexts(stage, 60)
    with torch.no_grad():
        plain = network(context)
        with sae.spliced(network):
            return apart(network(context), plain)


def of_kind(store: Store, kind: str, stored: Activations) -> float:
    """A dictionary that dtx trained, loaded by SAELens: largest difference on stored rows."""
    from sae_lens import SAE

    if kind == "transcoder":
        from tests.dictionary.test_transcoder import stage as transcoders

        what = transcoders("steps=40")
    else:
        what = training.stage("steps=40", kind=kind)
    training.make(store, what)
    (name,) = what.load()
    ours = what.load()[name]
    theirs = SAE.load_from_disk(what.path / name)
    own = what.activations.load()
    x = torch.from_numpy(np.asarray(own.array(ours.hook_name)[:200], np.float32))
    assert ours.encode(x).any()
    return max(apart(ours.encode(x), theirs.encode(x)), apart(ours.reconstruct(x), theirs(x)))


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference."""
    return (one - other).abs().max().item()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]))
