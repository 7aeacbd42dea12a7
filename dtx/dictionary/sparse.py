"""The features of stored activations as a sparse matrix: few are on at a token.

Letters: n rows, f features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from dtx.dictionary.spec import How

if TYPE_CHECKING:
    import pandas as pd
    from scipy.sparse import csc_array, csc_matrix, csr_array

    from dtx.activations.stored import Activations
    from dtx.dictionary.trained import Dictionaries

TOGETHER = 4096
"""Rows that are encoded at once."""


class Encoder(Protocol):
    """What turns activations into features: a dictionary, or a control without training."""

    def encode(self, x_nd: Tensor) -> Tensor:
        """Features (n, f) of activations (n, d)."""
        ...


@torch.inference_mode()
def encoded(
    encoder: Encoder, stored: Activations, hook: str, rows: np.ndarray | None = None
) -> csc_matrix:
    """The features of stored rows, those that are on.

    Args:
        encoder: Gives the features.
        stored: The activations. hook: Which of them.
        rows: (n,) numbers of rows; None: all.

    Returns:
        (n, f) float32, by column.

    Raises:
        UnknownName: That hook was not stored.
    """
    from scipy.sparse import csc_matrix, csr_matrix, vstack

    array_rw = stored.array(hook)
    rows = np.arange(len(stored)) if rows is None else rows
    parts = []
    for begin in range(0, len(rows), TOGETHER):
        x_nd = np.asarray(array_rw[rows[begin : begin + TOGETHER]], np.float32)
        parts.append(csr_matrix(encoder.encode(torch.from_numpy(x_nd)).numpy()))
    return csc_matrix(vstack(parts)) if parts else csc_matrix((0, 0), dtype=np.float32)


def width_of(active: csc_matrix | csc_array | csr_array) -> int:
    """Number of features of a sparse matrix."""
    return int(active.shape[1]) if active.shape else 0


def drawn_rows(count: int, most: int, seed: int) -> np.ndarray:
    """Numbers of the rows that are looked at, ascending: all of ``count``, or ``most`` drawn by the seed."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def first_size(dictionaries: Dictionaries) -> pd.DataFrame:
    """The lines of the trained dictionaries of the first hook, width and sparsity, one a seed."""
    frame = dictionaries.frame
    frame = frame.loc[frame.how == How.trained.value]
    size = ["hook", "width", "sparsity"]
    return frame.loc[(frame[size] == frame[size].iloc[0]).all(axis=1)]
