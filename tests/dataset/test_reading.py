import numpy as np
import pyarrow as pa
import pytest

from dtx.dataset.episodes import Episodes
from dtx.errors import UserError
from tests.dataset.test_episodes import write


def change(folder, file, column, value, at=3):
    """Write a file anew with one value, or a whole column, replaced."""
    path = folder / f"{file}.arrow"
    batch = pa.ipc.open_file(path.read_bytes()).get_batch(0)
    arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
    if callable(value):
        arrays[column] = value(arrays[column])
    elif pa.types.is_fixed_size_list(arrays[column].type):
        cells = arrays[column].flatten().to_numpy().copy()
        cells[at] = value
        arrays[column] = pa.FixedSizeListArray.from_arrays(pa.array(cells), 147)
    else:
        cells = arrays[column].to_numpy().copy()
        cells[at] = value
        arrays[column] = pa.array(cells)
    new = pa.record_batch(list(arrays.values()), names=list(arrays))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, new.schema) as writer:
        writer.write_batch(new)


@pytest.mark.parametrize(
    ("file", "column", "value", "message"),
    [
        ("observations", "observation", 11, "beyond MiniGrid's objects, colours or states"),
        ("observations", "observation", 255, "beyond MiniGrid's objects"),
        ("steps", "observation", -1, "has an observation that is not one of the"),
        ("steps", "observation", 10**6, "has an observation that is not one of the"),
        ("steps", "action", 255, "an action is 255, more than 253"),
        ("steps", "reward", np.nan, "a reward is not a finite number"),
        ("steps", "reward", np.inf, "a reward is not a finite number"),
        ("episodes", "start", -5, "its episodes are not the .* steps one after the other"),
        ("episodes", "start", 10**9, "one after the other"),
        ("episodes", "length", 0, "an episode has no step"),
        ("episodes", "length", -2, "an episode has no step"),
        ("episodes", "length", 10**6, "one after the other"),
        ("episodes", "return", 7.0, "a return is not the sum of its episode's rewards"),
        ("episodes", "return", np.nan, "a return is not the sum of its episode's rewards"),
        ("episodes", "outcome", 3, "an outcome is none of 0, 1, 2"),
        ("episodes", "split", 2, "a split none of 0, 1"),
        ("episodes", "temperature", np.nan, "a temperature is not a positive number"),
        ("episodes", "temperature", 0, "a temperature is not a positive number"),
        ("steps", "action", lambda c: c.cast(pa.int64()), "action is int64, not uint8"),
        ("steps", "reward", lambda c: c.cast(pa.float64()), "reward is float64, not float32"),
        ("steps", "reward", lambda c: c.cast(pa.string()), "cannot be read"),
        (
            "steps",
            "reward",
            lambda c: pa.array([None, *c.to_pylist()[1:]], pa.float32()),
            "cannot be read",
        ),
    ],
)
def test_what_no_recording_gives_is_refused(tmp_path, file, column, value, message):
    write(tmp_path)
    Episodes.read(tmp_path)
    change(tmp_path, file, column, value)
    with pytest.raises(UserError, match=rf"{file}\.arrow: .*{message}.* sets it aside"):
        Episodes.read(tmp_path)


@pytest.mark.parametrize("file", ["observations", "steps", "episodes"])
@pytest.mark.parametrize(
    "harm",
    [
        lambda p: p.unlink(),
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(p.read_bytes()[:300]),
        lambda p: p.write_bytes(bytes(range(256)) * 40),
        lambda p: p.write_bytes(p.read_bytes().replace(b"split", b"spilt").replace(b"act", b"atc")),
    ],
)
def test_a_damaged_file_is_named(tmp_path, file, harm):
    write(tmp_path)
    before = (tmp_path / f"{file}.arrow").read_bytes()
    harm(tmp_path / f"{file}.arrow")
    if (tmp_path / f"{file}.arrow").exists() and (
        (tmp_path / f"{file}.arrow").read_bytes() == before
    ):
        return  # it holds no such name
    with pytest.raises(UserError, match=rf"{file}\.arrow: cannot be read"):
        Episodes.read(tmp_path)
