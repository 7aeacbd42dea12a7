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
    """One line a planted fact: ``f1`` on held-out prefixes, ``cosine`` of the feature chosen on others."""
    known = {name: name for name in table.names}
    known |= {other: name for name, others in table.also.items() for other in others}
    weight = stored.columns["count"].astype(np.float64)
    halves = [stored.rows("prefix", part) for part in (Part.TRAIN, Part.HELD_OUT)]
    with torch.no_grad():
        on = sae.encode(torch.from_numpy(np.asarray(stored.array(HOOK), np.float32))).numpy()
    decoder = sae.weights["W_dec"].numpy()
    decoder = decoder / np.maximum(np.linalg.norm(decoder, axis=1, keepdims=True), 1e-12)
    cuts = on.max(0) * np.arange(CUTS)[:, None] / CUTS  # (cut, feature)
    true = np.stack([table.values[:, table.names.index(known[name])] for name in truth.names], 1)

    def f1(rows: np.ndarray) -> np.ndarray:
        """(cut, fact, feature), all facts by one product a cut."""
        w, on_half = weight[rows].astype(np.float32), on[rows]
        weighted = true[rows] * w[:, None]
        found = []
        for cut in cuts:
            fires = (on_half > cut).astype(np.float32)
            both = weighted.T @ fires
            found.append(2 * both / np.maximum(w @ fires + weighted.sum(0)[:, None], 1e-12))
        return np.stack(found)

    train, held_out = (f1(half) for half in halves)
    lines = []
    for i, (name, kind, size) in enumerate(zip(truth.names, truth.kind, truth.size, strict=True)):
        cut, feature = np.unravel_index(train[:, i].argmax(), train[:, i].shape)
        cosine = float(np.sign(size) * decoder[feature] @ truth.directions[i])
        lines.append((name, kind, float(held_out[cut, i, feature]), cosine))
    return pd.DataFrame(lines, columns=["fact", "kind", "f1", "cosine"])
