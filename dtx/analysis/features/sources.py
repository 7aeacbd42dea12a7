"""Whose features are compared: the dictionary's, those of controls, and what needs no dictionary.

Letters: n rows, d activation, f feature.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csc_array, csr_array, vstack

from dtx.activations.stored import Activations
from dtx.analysis.features.spec import (
    DIMENSIONS,
    FROZEN,
    FROZEN_ENCODER,
    INPUT,
    PCA,
    RANDOM,
    SOFT_FROZEN,
    TRAINED,
    UNTRAINED,
)
from dtx.dictionary import controls
from dtx.dictionary.autoencoder import SparseAutoencoder
from dtx.dictionary.spec import How
from dtx.dictionary.trained import Dictionaries
from dtx.errors import UserError

CHUNK = 4_096
"""Rows that are encoded at once."""
WAYS = {
    How.frozen_decoder.value: FROZEN,
    How.soft_frozen_decoder.value: SOFT_FROZEN,
    How.frozen_encoder.value: FROZEN_ENCODER,
}
"""Names of what was trained of a control, as readers see them."""


@dataclass(frozen=True)
class Which:
    """One setting of the dictionaries of a stage: hook, width and sparsity."""

    hook: str
    width: int
    sparsity: float

    def names(self, dictionaries: Dictionaries) -> Iterator[tuple[str, int, str]]:
        """Name, seed and what was trained, of each dictionary of this setting."""
        for line in dictionaries.frame.itertuples():
            if (line.hook, line.width, line.sparsity) == (self.hook, self.width, self.sparsity):
                yield str(line.name), int(line.seed), str(line.how)


@dataclass(frozen=True)
class Reading:
    """Stored activations and dictionaries of them."""

    stored: Activations
    dictionaries: Dictionaries


@dataclass(frozen=True)
class Source:
    """Features at rows.

    Attributes:
        name: One of those in :mod:`dtx.analysis.features.spec`.
        seed: Of the dictionary; of an untrained network: its number.
        values: (n, f) features: sparse, on above 0; or dense, where both sides are read.
    """

    name: str
    seed: int
    values: csr_array | np.ndarray


def sources(
    which: Which,
    model: Reading,
    untrained: list[Reading],
    frozen: Dictionaries,
    inputs: np.ndarray,
    rows: np.ndarray,
    weight: np.ndarray,
    chosen_on: np.ndarray,
    seed: int,
) -> Iterator[Source]:
    """Yield each source; only one is in memory at a time.

    Args:
        which: Of the dictionaries. model: The model's. untrained: Those of untrained networks.
        frozen: The model's dictionaries of which a part stays random.
        inputs: (n, c) one-hots of the raw input at the rows.
        rows: (n,) of the stored ones. weight: (n,) how often each occurs.
        chosen_on: Of the n rows those that principal components are taken of.
        seed: Of the random dictionary.
    """
    x = model.stored.array(which.hook)
    for name, number, how in which.names(model.dictionaries):
        if how == How.trained.value:
            yield Source(TRAINED, number, encoded(model.dictionaries[name], x, rows))
    for name, number, how in which.names(frozen):
        yield Source(WAYS[how], number, encoded(frozen[name], x, rows))
    for number, network in enumerate(untrained):
        for name, _, _ in which.names(network.dictionaries):
            their = network.stored.array(which.hook)
            yield Source(UNTRAINED, number, encoded(network.dictionaries[name], their, rows))
    yield Source(INPUT, 0, csr_array(inputs.astype(np.float32)))
    dense = np.asarray(x[rows], np.float32)
    yield Source(DIMENSIONS, 0, dense)
    main = controls.pca(dense[chosen_on], weight[chosen_on], dense.shape[1])
    components = main.weights["W_enc"][:, : dense.shape[1]].numpy()
    yield Source(PCA, 0, (dense - main.weights["b_dec"].numpy()) @ components)
    mean = torch.from_numpy(
        (weight[chosen_on] @ dense[chosen_on] / weight[chosen_on].sum()).astype(np.float32)
    )
    k = max(1, min(round(which.sparsity), which.width)) if which.sparsity >= 1 else which.width
    drawn = controls.random(dense.shape[1], which.width, k, seed, mean)
    yield Source(RANDOM, seed, encoded(drawn, dense, np.arange(len(rows))))


@torch.inference_mode()
def encoded(sae: SparseAutoencoder, x: np.ndarray, rows: np.ndarray) -> csr_array:
    """Features (n, f) at rows of stored activations; what is not above 0 is left out.

    Raises:
        UserError: The dictionary is of vectors of another width, or a feature is not a number.
    """
    width = sae.weights["W_enc"].shape[0]
    if x.shape[1] != width:
        raise UserError(
            f"a dictionary of vectors of {width} cannot read activations of {x.shape[1]}"
        )
    parts = []
    for begin in range(0, len(rows), CHUNK):
        some = np.asarray(x[rows[begin : begin + CHUNK]], np.float32)
        features = sae.encode(torch.from_numpy(some)).numpy()
        if not np.isfinite(features).all():
            row = int(rows[begin + int(np.argmin(np.isfinite(features).all(1)))])
            raise UserError(f"a feature is not a number at row {row} of the activations")
        parts.append(csr_array(np.maximum(features, 0)))
    return csr_array(vstack(parts))


def mismatched(model: Activations, other: Activations) -> int:
    """Rows at which another model's activations are not of the same token of the same prefix."""
    if len(model) != len(other):
        return max(len(model), len(other))
    names = ("episode", "step", "kind", "start", "prefix", "count")
    same = [model.columns[name] == other.columns[name] for name in names]
    return int((~np.logical_and.reduce(same)).sum())


def sparse(values: csr_array | np.ndarray) -> csc_array | np.ndarray:
    """Features by column, as thresholds are taken."""
    return values if isinstance(values, np.ndarray) else csc_array(values)
