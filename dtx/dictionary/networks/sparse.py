"""Features of a batch of which few are on: products that touch those alone, forward and backward.

Letters: n rows of a batch, f feature, z features that are on in the batch, d any vector.
"""

from __future__ import annotations

import warnings

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

GROUPS = 8
"""Of a row, the largest values are sought in so many interleaved groups."""


class Codes:
    """Features of a batch in rows (CSR), and the same in columns.

    Args:
        begins: (n + 1,) where each row begins. index: (z,) feature. f: Features there are.
    """

    def __init__(self, begins: np.ndarray, index: np.ndarray, f: int):
        self.n, self.f = len(begins) - 1, f
        self._begins, self._index = torch.from_numpy(begins), torch.from_numpy(index)
        order = np.arange(len(index), dtype=np.int32)
        columns = scipy.sparse.csr_array((order, index, begins), shape=(self.n, f)).tocsc()
        self._order = torch.from_numpy(columns.data)
        self._column_begins = torch.from_numpy(columns.indptr)
        self._rows = torch.from_numpy(columns.indices)

    @property
    def index(self) -> Tensor:
        """(z,) feature of each value."""
        return self._index

    def decoded(self, values_z: Tensor, matrix_fd: Tensor, bias_d: Tensor | None = None) -> Tensor:
        """(n, d): features times a matrix."""
        codes = _csr(self._begins, self._index, values_z, (self.n, self.f))
        return codes @ matrix_fd if bias_d is None else torch.addmm(bias_d, codes, matrix_fd)

    def transposed(self, values_z: Tensor, x_nd: Tensor) -> Tensor:
        """(f, d): transposed features times rows; the gradient of a decoder or encoder."""
        values = values_z[self._order]
        return _csr(self._column_begins, self._rows, values, (self.f, self.n)) @ x_nd

    def products(self, x_nd: Tensor, matrix_fd: Tensor) -> Tensor:
        """(z,): product of each value's row of ``x`` with its feature's row of the matrix."""
        ones = torch.ones(len(self._index), dtype=x_nd.dtype)
        pattern = _csr(self._begins, self._index, ones, (self.n, self.f))
        return torch.sparse.sampled_addmm(pattern, x_nd, matrix_fd.T, beta=0).values()

    def summed(self, values_z: Tensor) -> Tensor:
        """(f,): sum over rows."""
        return torch.zeros(self.f).index_add_(0, self._index, values_z)

    def of_rows(self, values_z: Tensor) -> Tensor:
        """(n,): sum over features."""
        counts = self._begins.diff()
        if len(self._index) == self.n * int(counts[0]) and bool((counts == counts[0]).all()):
            return values_z.view(self.n, -1).sum(1)
        rows = torch.repeat_interleave(torch.arange(self.n), counts)
        return torch.zeros(self.n, dtype=values_z.dtype).index_add_(0, rows, values_z)


def _csr(begins: Tensor, index: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    return torch.sparse_csr_tensor(begins, index, values, size=shape, check_invariants=False)


with warnings.catch_warnings():  # torch says once in a process that such tensors are new
    warnings.simplefilter("ignore")
    _csr(torch.tensor([0, 1]), torch.tensor([0]), torch.ones(1), (1, 1))


def largest(before_nf: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest values (n, k) of each row and their places (n, k), in any order.

    The k largest lie in the k interleaved groups whose own largest are largest, so few values are compared.
    """
    n, f = before_nf.shape
    if f % GROUPS or f // GROUPS <= k:
        index = _places(before_nf, k)
        return before_nf.gather(1, index), index
    groups = before_nf.view(n, GROUPS, f // GROUPS)
    group_nk = _places(groups.amax(1), k)
    some = groups.gather(2, group_nk[:, None, :].expand(n, GROUPS, k)).reshape(n, GROUPS * k)
    place_nk = _places(some, k)
    index = (place_nk // k) * (f // GROUPS) + group_nk.gather(1, place_nk % k)
    return some.gather(1, place_nk), index


def _places(x_nf: Tensor, k: int) -> Tensor:
    """(n, k): where the k largest values of each row are."""
    f = x_nf.shape[1]
    if k == f:
        return torch.arange(f).expand(x_nf.shape[0], f)
    return torch.from_numpy(np.argpartition(x_nf.numpy(), f - k, axis=1)[:, f - k :].copy())


def of_largest(index_nk: Tensor, f: int) -> Codes:
    """Codes with k features in every row."""
    n, k = index_nk.shape
    begins = np.arange(0, n * k + 1, k, dtype=np.int32)
    return Codes(begins, index_nk.reshape(-1).numpy().astype(np.int32), f)
