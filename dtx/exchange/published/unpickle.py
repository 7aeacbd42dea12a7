"""Program for a separate process: read a pickle of trajectories, write its arrays. Does not import dtx.

``python -I unpickle.py FILE OUT.npz``
"""

import gzip
import lzma
import pickle
import resource
import sys

import numpy as np
from numpy._core import multiarray, numeric

MEMORY = 16 << 30
"""Bytes of address space: a compressed file of some kilobytes can hold any amount."""

ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): dict,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "complex"): complex,
    ("builtins", "bytearray"): bytearray,
}
_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")


class Placeholder:
    """Replaces an object of any other class: accepts all arguments and does nothing."""

    def __init__(self, *_args, **_kwargs):
        pass

    def __setstate__(self, _state):
        pass

    def __setitem__(self, _key, _value):
        pass

    def append(self, _value):
        pass

    def extend(self, _values):
        pass


class Restricted(pickle.Unpickler):
    """Knows numpy's arrays and plain containers."""

    def find_class(self, module, name):
        if module in _NUMPY and name in ("_reconstruct", "scalar"):
            return getattr(multiarray, name)
        if module in ("numpy.core.numeric", "numpy._core.numeric") and name == "_frombuffer":
            return getattr(numeric, name)
        return ALLOWED.get((module, name), Placeholder)

    def persistent_load(self, _pid):
        return Placeholder()


def main(file: str, out: str) -> None:
    """Read and write."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    with open(file, "rb") as stream:  # noqa: PTH123  # the openers below take the same arguments
        start = stream.read(2)
    opener = {b"\x1f\x8b": gzip.open, b"\xfd7": lzma.open}.get(start, open)
    with opener(file, "rb") as stream:
        content = Restricted(stream).load()
    if not isinstance(content, dict) or not isinstance(content.get("data"), dict):
        raise ValueError("it holds no dictionary with 'data'")
    arrays = {}
    for name in ("observations", "actions", "rewards", "dones", "truncated"):
        if name not in content["data"]:
            raise ValueError(f"data.{name} is missing")
        arrays[name] = np.asarray(content["data"][name])
        if arrays[name].dtype.kind not in "biuf":
            raise ValueError(f"data.{name} is no array of numbers")
    metadata = content.get("metadata")
    args = metadata.get("args") if isinstance(metadata, dict) else None
    if isinstance(args, str):
        import json

        args = json.loads(args)
    env = args.get("env_id") if isinstance(args, dict) else None
    np.savez(out, env=np.array(env if isinstance(env, str) else ""), **arrays)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}".splitlines()[0])
