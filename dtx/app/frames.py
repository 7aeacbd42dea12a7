"""Answers as bytes: a JSON head, then the arrays that it names. ``page/frames.js`` reads them.

A frame is the head's length (uint32, little-endian), the head, padded with spaces so that both end at a
multiple of 8, and the arrays, each padded to 8. In the head an array is ``{"$array": [offset, type, shape]}``
with the offset counted from the end of the head. A stream is frames, each after its length (uint32).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

_TYPES = {"f4": np.float32, "f8": np.float64, "i4": np.int32, "u1": np.uint8}


class Exact(np.ndarray):
    """A float64 array that is sent as such; others are sent as float32."""


def exact(values: Any) -> Exact:
    """An array that keeps its 64 bits."""
    return np.asarray(values, np.float64).view(Exact)


def encode(value: Any) -> bytes:
    """A frame of plain values, numpy arrays and tensors.

    Numbers that are not finite become null, for JSON has none; in arrays they stay.

    Raises:
        TypeError: A value of another type.
    """
    arrays: list[bytes] = []
    at = 0

    def planned(array: np.ndarray) -> dict[str, Any]:
        nonlocal at
        kind = _kind(array)
        data = np.ascontiguousarray(array, _TYPES[kind]).tobytes()
        place = at
        data += bytes(-len(data) % 8)
        at += len(data)
        arrays.append(data)
        return {"$array": [place, kind, list(array.shape)]}

    def walk(item: Any) -> Any:
        if isinstance(item, Tensor):
            return planned(item.detach().numpy())
        if isinstance(item, np.ndarray):
            return planned(item)
        if isinstance(item, np.generic):
            return walk(item.item())
        if isinstance(item, float):
            return item if math.isfinite(item) else None
        if isinstance(item, Mapping):
            return {str(k): walk(v) for k, v in item.items()}
        if isinstance(item, (list, tuple)):
            return [walk(v) for v in item]
        if item is None or isinstance(item, (str, int, bool)):
            return item
        raise TypeError(f"{type(item).__name__} cannot be sent to the page")

    head = json.dumps(walk(value), separators=(",", ":"), ensure_ascii=False).encode()
    head += b" " * (-(4 + len(head)) % 8)
    return b"".join([len(head).to_bytes(4, "little"), head, *arrays])


def decode(frame: bytes) -> Any:
    """The value of a frame; arrays are read-only views of it."""
    end = 4 + int.from_bytes(frame[:4], "little")

    def walk(item: Any) -> Any:
        if isinstance(item, dict):
            if item.keys() == {"$array"}:
                at, kind, shape = item["$array"]
                count = math.prod(shape)
                return np.frombuffer(frame, _TYPES[kind], count, end + at).reshape(shape)
            return {k: walk(v) for k, v in item.items()}
        return [walk(v) for v in item] if isinstance(item, list) else item

    return walk(json.loads(frame[4:end]))


def in_stream(frame: bytes) -> bytes:
    """A frame as it stands in a stream."""
    return len(frame).to_bytes(4, "little") + frame


def frames_of(stream: bytes) -> list[Any]:
    """The values of a whole stream."""
    values, at = [], 0
    while at < len(stream):
        end = at + 4 + int.from_bytes(stream[at : at + 4], "little")
        values.append(decode(stream[at + 4 : end]))
        at = end
    return values


def _kind(array: np.ndarray) -> str:
    if isinstance(array, Exact):
        return "f8"
    if array.dtype == np.uint8 or array.dtype == bool:
        return "u1"
    if array.dtype.kind in "iu":
        return "i4"
    if array.dtype.kind == "f":
        return "f4"
    raise TypeError(f"arrays of {array.dtype} cannot be sent to the page")
