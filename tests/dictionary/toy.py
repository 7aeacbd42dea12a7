"""Dictionaries without training: random ones of a tiny model's stored activations."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from dtx.activations.windows import WindowActivations
from dtx.config.compose import build_group
from dtx.dictionary import trained
from dtx.dictionary.autoencoder import SparseAutoencoder
from dtx.dictionary.sae_files import write
from dtx.dictionary.topk import TopK
from dtx.report import Report
from tests.activations.toy import stage as tiny_activations


@dataclass(frozen=True, kw_only=True)
class Random(TopK):
    """TopK dictionaries of random directions that are tied: the decoder is the encoder's transpose."""

    def run(self, out: Path) -> None:
        stored, lines = self.activations.load(), []
        sizes = (self.chosen, self.width, self.k, self.seeds, self.how)
        for hook, width, k, seed, how in itertools.product(*sizes):
            name = trained.name_of(hook, width, k, seed, how.value)
            x_rd = np.asarray(stored.array(hook), np.float32)
            mean_d = torch.from_numpy(x_rd.mean(0))
            generator = torch.Generator().manual_seed(seed)
            decoder_fd = torch.randn(width, x_rd.shape[1], generator=generator)
            decoder_fd /= decoder_fd.norm(dim=1, keepdim=True)
            weights = {
                "W_enc": decoder_fd.T.contiguous(), "W_dec": decoder_fd,
                "b_dec": mean_d, "b_enc": torch.zeros(width),
            }  # fmt: skip
            sae = SparseAutoencoder("topk", weights, hook, k=k)
            write(sae, out / name)
            lines.append(
                {"name": name, "hook": hook, "width": width, "sparsity": k, "seed": seed,
                 "how": how.value, "l0": float(k), "explained_variance": 0.0, "dead_share": 0.0}
            )  # fmt: skip
        Report(out).table(trained.TABLE, pd.DataFrame(lines))
        Report(out).headline({"dictionary/l0": float(self.k[0])})


def stage(*overrides: str, activations: WindowActivations | None = None, **changes: Any) -> Random:
    """Random dictionaries of a tiny model's activations."""
    built = build_group(
        "dictionary/topk", ["dictionary.width=[24]", "dictionary.k=[4]", *overrides]
    )
    fields = {f.name: getattr(built, f.name) for f in dataclasses.fields(built)}
    first = activations or tiny_activations()
    return Random(**{**fields, "activations": first, **changes})
