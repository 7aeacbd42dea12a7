import numpy as np
import pytest
import torch

from dtx.app.frames import decode, encode, exact, frames_of, in_stream


def test_values_come_back_with_their_types_and_shapes():
    value = {
        "text": "S1 → «é»",
        "number": 0.1,
        "flag": True,
        "nothing": None,
        "list": [1, [2.5, "x"]],
        "f": np.arange(6, dtype=np.float64).reshape(2, 3) / 7,
        "i": np.array([[-1], [2**31 - 1]], np.int64),
        "b": np.array([True, False, True]),
        "u": np.arange(5, dtype=np.uint8),
        "t": torch.tensor([1.5, -2.0]),
        "e": exact([1 / 3]),
        "empty": np.zeros((0, 4), np.float32),
        "scalar": np.float32(0.5),
    }
    frame = encode(value)
    back = decode(frame)
    for name in ("text", "number", "flag", "nothing", "list", "scalar"):
        assert back[name] == value[name]
    assert back["f"].dtype == np.float32 and np.array_equal(
        back["f"], value["f"].astype(np.float32)
    )
    assert back["i"].dtype == np.int32 and back["i"].tolist() == [[-1], [2**31 - 1]]
    assert back["b"].dtype == np.uint8 and back["b"].tolist() == [1, 0, 1]
    assert back["t"].tolist() == [1.5, -2.0]
    assert back["e"].dtype == np.float64 and back["e"][0] == 1 / 3
    assert back["empty"].shape == (0, 4)


def test_arrays_are_aligned_for_typed_arrays_of_a_browser():
    frame = encode({"u": np.zeros(3, np.uint8), "e": exact([1.0]), "f": np.zeros(5, np.float32)})
    head = 4 + int.from_bytes(frame[:4], "little")
    assert head % 8 == 0 and len(frame) % 8 == 0


def test_a_stream_is_read_back_frame_by_frame():
    stream = b"".join(in_stream(encode({"i": i, "x": np.full(i, i)})) for i in range(4))
    assert [(v["i"], v["x"].tolist()) for v in frames_of(stream)] == [
        (i, [i] * i) for i in range(4)
    ]


def test_what_no_page_can_read_is_refused():
    assert decode(encode({"x": float("nan"), "y": np.array([np.nan, np.inf])}))["x"] is None
    for wrong in (object(), {"x": {1, 2}}, np.array(["a"])):
        with pytest.raises(TypeError, match="cannot be sent"):
            encode(wrong)
