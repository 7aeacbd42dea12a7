import io
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from dtx import files
from dtx.errors import UserError
from dtx.files import (
    DamagedFileError,
    first_bytes,
    link_in,
    parse_json,
    read_arrays,
    read_json,
    read_lines,
    read_table,
    read_tensors,
    read_torch,
    refuse_links,
    taken_from,
)


def test_what_is_written_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"größe": [1, null, 0.5]}')
    assert read_json(tmp_path / "a.json") == {"größe": [1, None, 0.5]}
    assert parse_json(b"[1]", "a") == [1]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is not JSON"),
        (b"{half", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"gr\xf6\xdfe", "is not JSON"),
        (b"\0" * 100, "is not JSON"),
        (b"[" * 200_000, "is nested too deeply"),
        (b'{"a":' * 200_000, "is nested too deeply"),
        (b"1" * 10_000, "is not JSON"),  # a number that Python does not convert
    ],
)
def test_damage_is_one_line_that_names_the_file(tmp_path, content, what):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=f"a.json: {what}") as error:
        read_json(path)
    assert isinstance(error.value, UserError) and isinstance(error.value, ValueError)
    assert len(str(error.value).splitlines()) == 1


def test_a_pipe_and_a_device_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(DamagedFileError, match="is not a file"):
            read_json(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_BYTES", 10)
    (tmp_path / "a.json").write_text("[1, 2, 3, 4, 5]")
    with pytest.raises(DamagedFileError, match="15 bytes are more than any such file has"):
        read_json(tmp_path / "a.json")


def test_a_file_that_is_not_there_is_not_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json")


# --- other kinds of files ------------------------------------------------------------------------------

READERS = {
    "lines": read_lines,
    "table": read_table,
    "arrays": read_arrays,
    "tensors": read_tensors,
    "torch": lambda path: read_torch(path, path.name),
    "start": lambda path: first_bytes(path, 4),
}


def write(kind: str, path: Path) -> Path:
    """A small whole file of a kind."""
    numbers = torch.arange(12.0).reshape(3, 4)
    if kind in ("lines", "start"):
        path.write_text('{"step": 1}\n{"step": 2}\n{"half')
    elif kind == "table":
        pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}).to_parquet(path)
    elif kind == "arrays":
        with path.open("wb") as file:
            np.savez_compressed(file, a=numbers.numpy(), b=np.zeros(0), c=np.array(3))
    elif kind == "tensors":
        save_file({"a": numbers}, path)
    else:
        views = [numbers[::2, 1:], numbers[0].expand(3, 4), torch.zeros(())]
        torch.save({"a": numbers, "views": views, "n": 1}, path)
    return path


def test_each_kind_is_read(tmp_path):
    read = {kind: reader(write(kind, tmp_path / kind)) for kind, reader in READERS.items()}
    assert read["lines"] == [{"step": 1}, {"step": 2}]  # a line that was cut off is none
    assert read["table"]["b"].tolist() == ["x", "y"]
    assert {n: a.shape for n, a in read["arrays"].items()} == {"a": (3, 4), "b": (0,), "c": ()}
    assert read["tensors"]["a"].tolist() == read["torch"]["a"].tolist()
    assert read["torch"]["views"][1].tolist() == [[0, 1, 2, 3]] * 3


@pytest.mark.parametrize("kind", READERS)
def test_no_kind_of_file_waits_for_a_pipe_or_reads_a_device(tmp_path, kind):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(DamagedFileError, match="is not a file"):
            READERS[kind](path)


@pytest.mark.parametrize("kind", [kind for kind in READERS if kind != "start"])
def test_mutated_files_of_every_kind_are_read_or_named(tmp_path, kind):
    whole = write(kind, tmp_path / "whole").read_bytes()
    numbers = random.Random(kind)
    for i in range(40):
        content = bytearray(whole)
        if i % 4 == 3:
            content = content[: numbers.randrange(len(content))]
        for _ in range(1 + i % 5):
            if content:
                content[numbers.randrange(len(content))] = numbers.randrange(256)
        (tmp_path / "hostile").write_bytes(content)
        try:
            READERS[kind](tmp_path / "hostile")
        except DamagedFileError as error:
            assert "hostile" in str(error) and len(str(error).splitlines()) == 1


def changed_torch(path: Path, change: Callable[[bytes], bytes]) -> Path:
    """A file of four numbers by torch, with its description changed."""
    torch.save({"w": torch.zeros(4)}, path)
    with zipfile.ZipFile(path) as before:
        members = {info.filename: before.read(info) for info in before.infolist()}
    with zipfile.ZipFile(path, "w") as after:
        for name, content in members.items():
            after.writestr(name, change(content) if name.endswith("data.pkl") else content)
    return path


def number(value: int) -> bytes:
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [
        (0, 10**11, 1),  # torch would make the storage as large as that
        (0, 10**11, 0),  # one number many times
        (10**11, 4, 1),
        (0, 4, 10**11),
        (0, -4, 1),
        (-1, 4, 1),
        (0, 4, -1),
        (0, 2**62, 2),
    ],
)
def test_a_tensor_is_not_larger_than_its_file(tmp_path, offset, shape, stride):
    def change(content: bytes) -> bytes:
        at = content.index(b"K\x00K\x04\x85")
        tail = content[at + 5 :].replace(b"K\x01\x85", number(stride) + b"\x85", 1)
        return content[:at] + number(offset) + number(shape) + b"\x85" + tail

    assert read_torch(changed_torch(tmp_path / "a.pt", lambda same: same), "a.pt")["w"].shape == (
        4,
    )
    with pytest.raises(DamagedFileError, match=r"a\.pt: cannot be read"):
        read_torch(changed_torch(tmp_path / "a.pt", change), "a.pt")


def test_torch_files_of_other_forms_are_refused(tmp_path):
    torch.save({"w": torch.zeros(4)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.save({"w": os.getcwd}, tmp_path / "code.pt")
    for name in ("old.pt", "code.pt"):
        with pytest.raises(DamagedFileError, match=name):
            read_torch(tmp_path / name, name)


def test_a_small_archive_that_holds_much_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_UNPACKED", 10**6)
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros(10**6))
    assert path.stat().st_size < 10**4
    for reader in ("arrays", "torch"):
        with pytest.raises(DamagedFileError, match="bytes are more than any such file has"):
            READERS[reader](path)
    np.savez(path, a=np.zeros(10**6))  # as large as it says: what is stored as it is, is no bomb
    assert read_arrays(path)["a"].shape == (10**6,)


def test_an_array_that_says_it_is_larger_than_its_content_is_refused(tmp_path):
    for shape, kind in ((10**12,), "<f8"), ((10**9, 10**9), "<f8"), ((4,), "|O"), ((-1,), "<f8"):
        stream = io.BytesIO()
        header = {"descr": kind, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("a.npy", stream.getvalue() + bytes(32))
        with pytest.raises(DamagedFileError, match=r"a\.npz"):
            read_arrays(tmp_path / "a.npz")


def test_two_members_of_one_name_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, pytest.warns(UserWarning):
        archive.writestr("a.npy", b"1")
        archive.writestr("a.npy", b"2")
    with pytest.raises(DamagedFileError, match="two of its members have one name"):
        read_arrays(tmp_path / "a.npz")


def test_a_small_table_with_many_rows_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_CELLS", 10**5)
    path = tmp_path / "a.parquet"
    pd.DataFrame({"a": np.zeros(10**6, np.int8)}).to_parquet(path)
    assert path.stat().st_size < 10**5
    with pytest.raises(DamagedFileError, match="1,000,000 values are more than any such file has"):
        read_table(path)


@pytest.mark.parametrize(
    ("take", "words"),
    [
        (lambda: {}["metrics"], "'metrics' is missing"),
        (lambda: len(1), "cannot be read"),
        (lambda: float("x"), "cannot be read"),
        (lambda: [].value, "cannot be read"),
    ],
)
def test_a_field_that_is_missing_or_of_another_kind_is_named(tmp_path, take, words):
    with (
        pytest.raises(DamagedFileError, match=f"result.json: {words}"),
        taken_from(tmp_path / "result.json"),
    ):
        take()


def test_links_are_found_wherever_they_are(tmp_path):
    (tmp_path / "handed" / "figures").mkdir(parents=True)
    (tmp_path / "handed" / "a").write_text("1")
    refuse_links(tmp_path / "handed")
    for place, target in (
        ("handed/b", "/etc/passwd"),
        ("handed/b", "none"),
        ("handed/b", "a"),
        ("handed/figures/b", "/etc"),
        ("handed/b", "figures"),
        ("link", "handed"),
    ):
        (tmp_path / place).symlink_to(target)
        top = tmp_path / place.split("/")[0]
        assert link_in(top) == tmp_path / place
        with pytest.raises(UserError, match=f"{place} is a link"):
            refuse_links(top)
        (tmp_path / place).unlink()
