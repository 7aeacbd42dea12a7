"""The kernel's bytes are those of its text, and its products those of numpy."""

from __future__ import annotations

import numpy as np
import pytest
import wasmtime

from dtx.app.file.contents import KERNEL
from tests.app.file.compile_kernel import compiled


def test_the_bytes_that_ship_are_those_of_the_text():
    assert KERNEL.read_bytes() == compiled(), "run python -m tests.app.file.compile_kernel"
    assert len(compiled()) < 1000


class Kernel:
    def __init__(self) -> None:
        self.store = wasmtime.Store()
        module = wasmtime.Module(self.store.engine, KERNEL.read_bytes())
        limits = wasmtime.MemoryType(wasmtime.Limits(64, None))
        self.memory = wasmtime.Memory(self.store, limits)
        instance = wasmtime.Instance(self.store, module, [self.memory])
        self.function = instance.exports(self.store)["product"]

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        (n, k), m = a.shape, b.shape[1]
        at_b, at_c = a.nbytes, a.nbytes + b.nbytes
        self.memory.write(self.store, a.tobytes() + b.tobytes(), 0)
        self.function(self.store, 0, at_b, at_c, n, k, m)
        found = self.memory.read(self.store, at_c, at_c + 4 * n * m)
        return np.frombuffer(bytes(found), np.float32).reshape(n, m)


@pytest.mark.parametrize(("n", "k", "m"), [(4, 1, 8), (4, 3, 16), (28, 256, 24), (8, 37, 104)])
def test_products_are_numpys(n, k, m):
    rng = np.random.default_rng(n + k + m)
    a = rng.normal(size=(n, k)).astype(np.float32)
    b = rng.normal(size=(k, m)).astype(np.float32)
    exact = a.astype(float) @ b.astype(float)
    assert np.abs(Kernel()(a, b) - exact).max() < 1e-6 * np.sqrt(k) * 10


def test_a_product_writes_nothing_beside_its_place():
    kernel = Kernel()
    kernel.memory.write(kernel.store, b"\xff" * 4096, 0)
    kernel(np.ones((4, 8), np.float32), np.ones((8, 8), np.float32))
    end = 4 * (4 * 8 + 8 * 8 + 4 * 8)
    assert bytes(kernel.memory.read(kernel.store, end, 4096)) == b"\xff" * (4096 - end)
