"""How well a dictionary's features are the planted facts: a feature and a threshold of each."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from dtx.activations.facts import FactTable
from dtx.activations.stored import Activations, Part
from dtx.dictionary.autoencoder import SparseAutoencoder
from dtx.dt.planted_truth import HOOK, PlantedTruth

CUTS = 10


def recovery(
    sae: SparseAutoencoder, stored: Activations, table: FactTable, truth: PlantedTruth
) -> pd.DataFrame:
    """One line a planted fact: ``f1`` on held-out prefixes, ``cosine`` of the feature chosen on the others."""
    known = {name: name for name in table.names}
    known |= {other: name for name, others in table.also.items() for other in others}
    weight = stored.columns["count"].astype(np.float64)
    halves = [stored.rows("prefix", part) for part in (Part.TRAIN, Part.HELD_OUT)]
    with torch.no_grad():
        on = sae.encode(torch.from_numpy(np.asarray(stored.array(HOOK), np.float32))).numpy()
    decoder = sae.weights["W_dec"].numpy()
    decoder = decoder / np.maximum(np.linalg.norm(decoder, axis=1, keepdims=True), 1e-12)
    cuts = on.max(0) * np.arange(CUTS)[:, None] / CUTS  # (cut, feature)
    lines = []
    for name, kind, size, way in zip(
        truth.names, truth.kind, truth.size, truth.directions, strict=True
    ):
        true = table.values[:, table.names.index(known[name])]

        def f1(rows: np.ndarray, features: np.ndarray, cut: np.ndarray, true=true) -> np.ndarray:
            fires, w = on[rows][:, features] > cut, weight[rows]
            hit = (w * true[rows]) @ fires
            return 2 * hit / np.maximum(w @ fires + (w * true[rows]).sum(), 1e-12)

        every = np.arange(on.shape[1])
        found = np.stack([f1(halves[0], every, cut) for cut in cuts])
        cut, feature = np.unravel_index(found.argmax(), found.shape)
        scored = f1(halves[1], np.array([feature]), cuts[cut, feature])[0]
        cosine = float(np.sign(size) * decoder[feature] @ way)
        lines.append((name, kind, float(scored), cosine, float(found.max())))
    return pd.DataFrame(lines, columns=["fact", "kind", "f1", "cosine", "f1_train"])
