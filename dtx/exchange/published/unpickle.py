"""Program for a separate process: read a pickle of trajectories, write its arrays. Does not import dtx.

``python -I unpickle.py FILE OUT.npz``

A pickle gives numpy the state of its arrays and types, and numpy believes it: wrong flags crash it. So arrays
are made here, from a plain type, a shape and as many bytes as these two need.
"""

import gzip
import lzma
import math
import os
import pickle
import re
import resource
import sys

import numpy as np

MEMORY = 16 << 30
"""Bytes of address space: a compressed file of some kilobytes can hold any amount."""
LEAST_MEMORY = 4 << 30
"""What Python, numpy and a small file need, generously."""
SECONDS = 60
"""Of computing, and as many more for every 100 MB of the file."""

_CODE = re.compile(r"[biuf][1248]")


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


class Kind:
    """In place of ``numpy.dtype``: a type of numbers, or any other one, whose ``dtype`` is None."""

    def __init__(self, code, *_):
        self.dtype = np.dtype(code) if isinstance(code, str) and _CODE.fullmatch(code) else None

    def __setstate__(self, state):
        # Version and byte order; a type of numbers has no parts, names or fields, and no flags.
        version, order, *rest = state
        plain = version == 3 and order in ("<", ">", "|") and rest == [None, None, None, -1, -1, 0]
        self.dtype = self.dtype.newbyteorder(order) if plain and self.dtype is not None else None


class Array:
    """In place of numpy's array: ``content`` is one of numbers, else None."""

    def __init__(self, *_):
        self.content = None

    def __setstate__(self, state):
        _, shape, kind, by_columns, data = state
        self.content = filled(shape, kind, data, "F" if by_columns else "C")


def filled(shape, kind, data, order="C"):
    """An array of exactly these bytes; None if it is not one of plain numbers."""
    if not isinstance(kind, Kind) or kind.dtype is None:
        return None
    sizes = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    if not sizes or len(shape) > 8 or not isinstance(data, (bytes, bytearray)):
        raise ValueError("an array has no shape or no bytes")
    if math.prod(shape) * kind.dtype.itemsize != len(data):
        raise ValueError(f"an array of shape {shape} does not have {len(data)} bytes")
    return np.frombuffer(data, kind.dtype).reshape(shape, order="F" if order == "F" else "C")


def from_buffer(data, kind, shape, order):
    """In place of numpy's function, for pickles of protocol 5."""
    array = Array()
    array.content = filled(shape, kind, data, order)
    return array


def scalar(kind, data=None):
    """In place of numpy's function."""
    content = filled((), kind, data)
    return Placeholder() if content is None else content.item()


KNOWN = {
    ("numpy", "dtype"): Kind,
    ("collections", "OrderedDict"): dict,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "complex"): complex,
    ("builtins", "bytearray"): bytearray,
}
KNOWN |= {
    (f"numpy.{core}.{module}", name): ours
    for core in ("core", "_core")
    for module, name, ours in (
        ("multiarray", "_reconstruct", Array),
        ("multiarray", "scalar", scalar),
        ("numeric", "_frombuffer", from_buffer),
    )
}


class Restricted(pickle.Unpickler):
    """Knows arrays of numbers and plain containers."""

    def find_class(self, module, name):
        return KNOWN.get((module, name), Placeholder)

    def persistent_load(self, _pid):
        return Placeholder()


def plain(value, depth=0):
    """Lists of arrays and numbers, for numpy."""
    if isinstance(value, Array):
        if value.content is None:
            raise ValueError("is no array of numbers")
        return value.content
    if isinstance(value, (list, tuple)):
        if depth > 8:
            raise ValueError("has more than 8 axes")
        return [plain(inner, depth + 1) for inner in value]
    if not isinstance(value, (bool, int, float)):
        raise ValueError("is no array of numbers")
    return value


def limit(file: str) -> None:
    """Bound the memory, the time and what is written, so that this process alone ends."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    memory = max(LEAST_MEMORY, min(MEMORY, machine // 2))
    seconds = SECONDS * (1 + os.stat(file).st_size // 10**8)  # noqa: PTH116
    limits = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_FSIZE: memory,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_CORE: 0,
    }
    for what, most in limits.items():
        _, hard = resource.getrlimit(what)
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (allowed, hard))


def main(file: str, out: str) -> None:
    """Read and write."""
    limit(file)
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
        try:
            arrays[name] = np.asarray(plain(content["data"][name]))
        except ValueError as error:
            raise ValueError(f"data.{name} {error}") from None
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
        sys.exit((f"{type(error).__name__}: {error}".splitlines() or ["?"])[0])
