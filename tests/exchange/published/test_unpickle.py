"""The process that reads a pickle: whatever that says of its arrays, it ends in bounded time and memory."""

import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtx.errors import UserError
from dtx.exchange.published import unpickle
from dtx.exchange.published.trajectories import unpickled

PLAIN = (3, "<", None, None, None, -1, -1, 0)


def content(**changes: Any) -> dict[str, Any]:
    data = {
        "observations": np.ones((3, 2, 4), np.uint8),
        "actions": np.arange(6).reshape(3, 2),
        "rewards": np.asfortranarray(np.arange(6.0).reshape(3, 2)).astype(">f4"),
        "dones": np.zeros((3, 2), bool),
        "truncated": np.zeros((3, 2), bool),
        "infos": np.array([{"a": 1}, None], dtype=object),
    }
    return {"data": {**data, **changes}, "metadata": {"args": {"env_id": "E", "x": np.float64(3)}}}


class Type:
    """A type of numpy with any state."""

    def __init__(self, code: str, state: Any):
        self.code, self.state = code, state

    def __reduce__(self):
        return np.dtype, (self.code, False, True), self.state


class Array:
    """An array of numpy with any state."""

    def __init__(self, *state: Any):
        self.state = state

    def __reduce__(self):
        return np.zeros(0).__reduce__()[0], (np.ndarray, (0,), b"b"), self.state


class Called:
    """A function or class that is called with any arguments."""

    def __init__(self, what: Any, *arguments: Any):
        self.what, self.arguments = what, arguments

    def __reduce__(self):
        return self.what, self.arguments


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_arrays_are_read_as_they_were_written(tmp_path, protocol):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content(), protocol))
    read = unpickled(tmp_path / "a.pkl")
    for name, array in content()["data"].items():
        if name != "infos":
            assert read[name].dtype == array.dtype and (read[name] == array).all()
    assert read["env"] == "E"


HOSTILE = {
    "flags_of_objects": Array(1, (4,), Type("f8", (*PLAIN[:-1], 63)), False, b"\xff" * 32),
    "objects_of_bytes": Array(1, (4,), Type("O8", PLAIN), False, b"\xff" * 32),
    "parts": Array(
        1, (4,), Type("V8", (3, "|", ("f8", (2,)), None, None, 8, 1, 27)), False, b"8" * 32
    ),
    "fields": Array(
        1, (4,), Type("V8", (3, "|", None, ("a",), {"a": ("f8", 10**9)}, 8, 1, 0)), 0, b""
    ),
    "size": Array(1, (4,), Type("V8", (3, "|", None, None, None, 2**31 - 1, 1, 0)), False, b""),
    "version": Array(1, (4,), Type("f8", (10**9, *PLAIN[1:])), False, b"8" * 32),
    "no_state": Array(1, (4,), Type("f8", None), False, b"8" * 31),
    "few_bytes": Array(1, (10**12,), np.dtype("f8"), False, b"8" * 32),
    "negative": Array(1, (-4,), np.dtype("f8"), False, b"8" * 32),
    "overflow": Array(1, (2**62, 4), np.dtype("f8"), False, b""),
    "axes": Array(1, (1,) * 65, np.dtype("f8"), False, b"8" * 8),
    "list_of_objects": Array(1, (4,), np.dtype("f8"), False, [1, 2, 3, 4]),
    "short_state": Array(1, (4,)),
    "an_array_of_any_size": Called(np.ndarray, (10**12,)),
    "bytes_of_any_size": Called(bytearray, 10**13),
    "a_name": Called(np.dtype, "f8,O8"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_no_state_of_an_array_reaches_numpy_unless_it_is_true(tmp_path, case):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content(rewards=HOSTILE[case])))
    with pytest.raises(UserError, match=r"a\.pkl: cannot be read as trajectories") as error:
        unpickled(tmp_path / "a.pkl")
    assert "crashed" not in str(error.value) and len(str(error.value).splitlines()) == 1


def nested(depth: int) -> bytes:
    """A tuple in a tuple ... as a key of a dictionary: Python's own hash of it overflows the stack."""
    return b"\x80\x04}" + b")" + b"\x85" * depth + b"K\x01s."


def test_a_process_that_crashes_or_needs_too_much_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "deep.pkl").write_bytes(nested(1_000_000))
    with pytest.raises(UserError, match="reading it crashed: SIGSEGV"):
        unpickled(tmp_path / "deep.pkl")
    huge = tmp_path / "memory.pkl"
    huge.write_bytes(
        b"\x80\x04cbuiltins\nbytearray\n\x8a\x07" + (10**13).to_bytes(7, "little") + b"\x85R."
    )
    with pytest.raises(UserError, match="it needs more memory than is allowed"):
        unpickled(huge)
    program = Path(unpickle.__file__).read_text().replace("SECONDS = 60", "SECONDS = 1")
    (tmp_path / "unpickle.py").write_text(program)
    monkeypatch.setattr("dtx.exchange.published.trajectories.__file__", str(tmp_path / "x.py"))
    wide = (
        b"\x80\x04(]"
        + b"q\x00"
        + b"".join(
            b"](" + bytes([ord("h"), i]) * 60 + b"e" + bytes([ord("q"), i + 1]) for i in range(6)
        )
    )
    data = b"(" + b"".join(
        b"X" + len(n).to_bytes(4, "little") + n + bytes([ord("h"), 6])
        for n in (b"observations", b"actions", b"rewards", b"dones", b"truncated")
    )
    (tmp_path / "time.pkl").write_bytes(wide + b"0" + b"}X\x04\x00\x00\x00data}" + data + b"us.")
    with pytest.raises(UserError, match=r"more (time|memory)"):
        unpickled(tmp_path / "time.pkl")


def fuzz(folder: Path, count: int) -> dict[str, int]:
    """Reads mutated pickles; counts what came of them."""
    numbers, counts = random.Random(count), {"read": 0, "refused": 0, "crashed": 0}
    whole = [pickle.dumps(content(), p) for p in (2, 3, 4, 5)]
    whole += [pickle.dumps(content(rewards=hostile)) for hostile in HOSTILE.values()]
    for i in range(count):
        one = bytearray(numbers.choice(whole))
        at = numbers.randrange(2, len(one))
        if i % 3 == 0:
            other = numbers.choice(whole)
            begin = numbers.randrange(2, len(other))
            one[at : at + numbers.randrange(40)] = other[begin : begin + numbers.randrange(40)]
        elif i % 3 == 1:  # near the states of the types
            at = max(one.find(b"dtype", at), 2)
            one[at + 5 : at + 45] = bytes(
                b if numbers.random() < 0.9 else numbers.randrange(256)
                for b in one[at + 5 : at + 45]
            )
        for _ in range(i % 4):
            one[numbers.randrange(2, len(one))] = numbers.randrange(256)
        (folder / "a.pkl").write_bytes(one)
        try:
            unpickled(folder / "a.pkl")
            counts["read"] += 1
        except UserError as error:
            counts["crashed" if "crashed" in str(error) else "refused"] += 1
    return counts


def test_some_mutated_pickles_crash_nothing(tmp_path):
    assert fuzz(tmp_path, 12)["crashed"] == 0


@pytest.mark.slow
def test_mutated_pickles_crash_nothing(tmp_path):
    counts = fuzz(tmp_path, 600)
    print(counts)
    assert counts["crashed"] == 0 and counts["read"] and counts["refused"]
