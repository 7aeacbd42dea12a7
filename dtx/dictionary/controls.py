"""Dictionaries without training: what a number of a trained one must be seen beside.

Each is a :class:`~dtx.dictionary.autoencoder.SparseAutoencoder` like any other, because its features can be
written as half-lines: ``x`` is ``relu(x) - relu(-x)``. So it encodes, decodes, is put into a model and is
written to SAELens's files by the same code as what it is compared with.

Letters: r stored rows, d activation, f feature, c component.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dtx.dictionary.autoencoder import SparseAutoencoder
from dtx.errors import UserError

ROWS = 65_536
"""Rows whose products are added at once, so that no float64 copy of all of them is made."""


def identity(d: int, *, hook: str = "") -> SparseAutoencoder:
    """The activation itself: one feature for each side of each dimension, (2d), and no error at all.

    Args:
        d: Width of the activation.
        hook: The activation that it replaces where it is put into a model.
    """
    return _both_sides(torch.eye(d), torch.zeros(d), hook)


def mean(
    x_rd: np.ndarray, weight_r: np.ndarray | None = None, *, hook: str = ""
) -> SparseAutoencoder:
    """The mean in the place of every activation: a dictionary without features, mean ablation.

    Args:
        x_rd: Activations. weight_r: How often each counts; None: once.
        hook: The activation that it replaces.

    Raises:
        UserError: There are no rows.
    """
    mean_d, _ = _moments(x_rd, weight_r, False)
    return _both_sides(torch.zeros(0, x_rd.shape[1]), _float(mean_d), hook)


def pca(
    x_rd: np.ndarray, weight_r: np.ndarray | None, k: int, *, hook: str = ""
) -> SparseAutoencoder:
    """The k principal components around the mean: of all dictionaries of k directions that are always
    on, the one that explains most variance of these rows.

    Args:
        x_rd: Activations. weight_r: How often each counts; None: once.
        k: Components, 0 to d; each is two features, one a side, of which one is on.
        hook: The activation that it replaces.

    Raises:
        UserError: k is beyond the dimensions, or there are no rows.
    """
    d = x_rd.shape[1]
    _fits(k, d, "principal components")
    mean_d, covariance_dd = _moments(x_rd, weight_r, True)
    _, vectors_dc = np.linalg.eigh(covariance_dd)
    components_cd = vectors_dc.T[::-1][:k]
    largest = np.abs(components_cd).argmax(1)
    # A component's sign is the solver's choice: the largest entry is made positive, the same everywhere.
    sign = np.sign(components_cd[np.arange(k), largest])
    return _both_sides(_float(components_cd * sign[:, None]), _float(mean_d), hook)


def fewer_components(components: SparseAutoencoder, k: int) -> SparseAutoencoder:
    """The first k components of :func:`pca`, whose sum over all rows is then not formed again.

    Args:
        components: As :func:`pca` gives them.
        k: Components, at most as many as there are.

    Raises:
        UserError: There are fewer.
    """
    decoder_fd = components.weights["W_dec"]
    there = len(decoder_fd) // 2
    _fits(k, there, "principal components")
    mean_d = components.weights["b_dec"]
    return _both_sides(decoder_fd[:there][:k], mean_d, components.hook_name)


def largest_dimensions(
    k: int, d: int, mean_d: Tensor | None = None, *, hook: str = ""
) -> SparseAutoencoder:
    """The k bare dimensions that are farthest from the mean at each token; the others get their mean.

    Args:
        k: Dimensions that are kept, 1 to d. d: Width of the activation.
        mean_d: (d,) of each dimension; None: 0.
        hook: The activation that it replaces.

    Raises:
        UserError: k is beyond the dimensions.
    """
    _fits(k, d, "bare dimensions", least=1)
    both = _both_sides(torch.eye(d), torch.zeros(d) if mean_d is None else mean_d, hook)
    return SparseAutoencoder("topk", both.weights, hook, k=k)


def random(
    d: int, width: int, k: int, seed: int, mean_d: Tensor | None = None, *, hook: str = ""
) -> SparseAutoencoder:
    """TopK of random unit directions, read and written along the same ones.

    Args:
        d: Width of the activation. width: Directions. k: Those that are on at a token, at most.
        seed: Of the directions.
        mean_d: (d,) from which they are measured; None: 0.
        hook: The activation that it replaces.

    Raises:
        UserError: k is beyond the directions.
    """
    _fits(k, width, "random directions", least=1)
    generator = torch.Generator().manual_seed(seed % 2**63)
    decoder_fd = torch.randn(width, d, generator=generator)
    decoder_fd /= decoder_fd.norm(dim=1, keepdim=True)
    weights = {
        "W_enc": decoder_fd.T.contiguous(),
        "W_dec": decoder_fd,
        "b_dec": torch.zeros(d) if mean_d is None else mean_d,
        "b_enc": torch.zeros(width),
    }
    return SparseAutoencoder("topk", weights, hook, k=k)


def _both_sides(directions_cd: Tensor, mean_d: Tensor, hook: str) -> SparseAutoencoder:
    """Two features a direction: how far the activation is on either side of the mean along it."""
    decoder_fd = torch.cat([directions_cd, -directions_cd])
    weights = {
        "W_enc": decoder_fd.T.contiguous(),
        "W_dec": decoder_fd,
        "b_dec": mean_d,
        "b_enc": torch.zeros(len(decoder_fd)),
    }
    return SparseAutoencoder("standard", weights, hook)


def _moments(
    x_rd: np.ndarray, weight_r: np.ndarray | None, second: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean (d,) and covariance (d, d) in float64, the latter zero if it is not asked for."""
    r, d = x_rd.shape
    weight_r = np.ones(r) if weight_r is None else np.asarray(weight_r, np.float64)
    total = weight_r.sum()
    if not total > 0:
        raise UserError("no activations: there is nothing to take a mean of")
    parts = [slice(begin, begin + ROWS) for begin in range(0, r, ROWS)]
    mean_d = sum(weight_r[p] @ np.asarray(x_rd[p], np.float64) for p in parts) / total
    covariance_dd = np.zeros((d, d))
    for part in parts if second else ():
        centred = np.asarray(x_rd[part], np.float64) - mean_d
        covariance_dd += (centred * weight_r[part, None]).T @ centred
    return np.asarray(mean_d), covariance_dd / total


def _fits(k: int, most: int, what: str, least: int = 0) -> None:
    if not least <= k <= most:
        raise UserError(f"{k} {what}: there are {most}; ask for {least} to {most}")


def _float(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
