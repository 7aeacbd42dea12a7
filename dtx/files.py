"""Reading files that may come from elsewhere: a handed folder, a remote store, another version or program.

Whatever is in them, reading takes bounded time and memory, runs nothing, and a file that is damaged is named.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dtx.errors import UserError

if TYPE_CHECKING:
    from zipfile import ZipFile

    import numpy as np
    import pandas as pd
    from torch import Tensor

MOST_BYTES = 256 * 1024**2
"""No record that dtx writes comes near it, and no table."""
MOST_CELLS = 50_000_000
"""Of a table."""
MOST_UNPACKED = 1024**3
"""Of what an archive holds compressed; what it holds as it is, is no more than the file."""


class DamagedFileError(UserError, ValueError):
    """A file does not hold what it should; a ValueError as well, for those who have a remedy to add."""


def size_of(path: Path) -> int:
    """Bytes of a file.

    Raises:
        DamagedFileError: It is a folder, a pipe or a device.
        OSError: It is missing.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):  # a pipe would wait for ever, a device may have no end
        raise DamagedFileError(f"{path}: is not a file")
    return about.st_size


def first_bytes(path: Path, n: int) -> bytes:
    """Up to ``n`` bytes at the beginning of a file that the user named.

    Raises:
        UserError: It is not a file, or cannot be read.
    """
    try:
        size_of(path)
        with path.open("rb") as stream:
            return stream.read(n)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def content_of(path: Path) -> bytes:
    """All bytes of a small file.

    Raises:
        DamagedFileError: It is too large, or not a file.
        OSError: It is missing or cannot be opened.
    """
    _bound(path, size_of(path), MOST_BYTES, "bytes")
    return path.read_bytes()


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DamagedFileError: It is not JSON, not UTF-8, too large or too deeply nested.
        OSError: It is missing or cannot be opened.
    """
    return parse_json(content_of(path), str(path))


def link_in(folder: Path) -> Path | None:
    """The first symbolic link among a folder or file and all that is below it; None if there is none."""
    if folder.is_symlink():
        return folder
    for place, folders, names in os.walk(folder):
        for name in sorted((*folders, *names)):
            if (Path(place) / name).is_symlink():
                return Path(place) / name
    return None


def refuse_links(folder: Path) -> None:
    """Check that a folder which somebody handed over holds its files itself.

    Raises:
        UserError: It is a link or holds one: what that leads to is another file of this machine.
    """
    if (link := link_in(folder)) is not None:
        raise UserError(
            f"{link} is a link, and dtx reads only what a folder holds itself; "
            "if you trust where it leads, `cp -rL` copies the folder with that content"
        )


def parse_json(content: bytes | str, name: str) -> Any:
    """The value of JSON text; ``name`` is where it is from.

    Raises:
        DamagedFileError: It is not JSON, not UTF-8 or too deeply nested.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise DamagedFileError(f"{name}: is nested too deeply") from None
    except ValueError as error:
        raise DamagedFileError(f"{name}: is not JSON ({str(error).splitlines()[0]})") from None


def read_lines(path: Path) -> list[Any]:
    """The values of a file with one JSON value a line; a last line that was cut off is left out.

    Raises:
        DamagedFileError: A line is not JSON: which one; or as for :func:`read_json`.
    """
    whole, newline, _ = content_of(path).rpartition(b"\n")
    lines = whole.split(b"\n") if newline else []
    return [parse_json(line, f"{path}, line {n}") for n, line in enumerate(lines, 1)]


@contextmanager
def taken_from(path: Path) -> Iterator[None]:
    """Name the file if what a block takes from its content is not there, or is of another kind.

    Raises:
        DamagedFileError: The block raised what a missing field or an unexpected value raises.
    """
    try:
        yield
    except DamagedFileError:
        raise
    except KeyError as error:
        raise DamagedFileError(f"{path}: {error.args[0]!r} is missing") from error
    except (ValueError, TypeError, AttributeError, IndexError, EOFError, OSError) as error:
        if (
            isinstance(error, OSError) and error.errno is not None
        ):  # of the disk, not of the content
            raise
        lines = str(error).splitlines() or [type(error).__name__]
        raise DamagedFileError(f"{path}: cannot be read ({lines[0][:150]})") from error


def read_table(path: Path) -> pd.DataFrame:
    """The table in a parquet file.

    Raises:
        DamagedFileError: It is damaged, or holds more than a table of dtx does: a small file can.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    size_of(path)
    try:
        with pq.ParquetFile(path) as file:
            about = file.metadata
            groups = [about.row_group(i) for i in range(about.num_row_groups)]
            cells = sum(g.column(j).num_values for g in groups for j in range(g.num_columns))
            _bound(path, max(cells, about.num_rows), MOST_CELLS, "values")
            _bound(path, sum(g.total_byte_size for g in groups), MOST_BYTES, "bytes")
            return file.read().to_pandas()
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays in an ``.npz`` file by name.

    Raises:
        DamagedFileError: It is damaged, or says of itself that it holds more than it does.
    """
    import numpy as np

    arrays = {}
    with archive(path) as members, taken_from(path):
        for name in members.namelist():
            with members.open(name) as stream:
                shape, _, dtype = _array_header(stream)
                wanted = math.prod(shape) * dtype.itemsize
                if dtype.hasobject or wanted > members.getinfo(name).file_size:
                    raise ValueError(f"{name}: {shape} of {dtype} is more than is there")
            with members.open(name) as stream:
                arrays[name.removesuffix(".npy")] = np.lib.format.read_array(
                    stream, allow_pickle=False
                )
    return arrays


def _array_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    from numpy.lib import format as npy

    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of an array is not known")
    return (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(stream)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file by name, with plain numbers for content.

    Raises:
        DamagedFileError: It is damaged.
    """
    import safetensors.torch

    size_of(path)
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise _damaged(path, error) from error


def read_torch(source: Path | BytesIO, name: str) -> Any:
    """What ``torch.save`` wrote: tensors and plain containers, nothing else is made.

    Args:
        source: The file, or its content.
        name: Where it is from.

    Raises:
        DamagedFileError: It is damaged, holds something else, or a tensor that is larger than the file.
        OSError: It is missing or cannot be opened.
    """
    import pickle

    import torch

    def load(device: str) -> Any:
        if isinstance(source, BytesIO):
            source.seek(0)
        return torch.load(source, weights_only=True, map_location=device)

    try:
        if isinstance(source, Path):
            size_of(source)
        with _zip(source, name) as members:
            held = sum(member.file_size for member in members.infolist())
            if wrong := members.testzip():  # torch compares no checksums
                raise ValueError(f"{wrong}: checksum differs")
        # A tensor is a view of stored numbers by any sizes and strides: torch grows what is too short for it,
        # and a stride of 0 makes many numbers of one. First without content: that takes no memory.
        for tensor in _tensors(load("meta")):
            numbers = tensor.numel() * tensor.element_size()
            if max(numbers, tensor.untyped_storage().nbytes()) > held:
                raise ValueError(f"a tensor of {list(tensor.shape)} is more than is there")
        return load("cpu")
    except pickle.UnpicklingError as error:
        raise DamagedFileError(f"{name}: cannot be read as tensors and nothing else") from error
    except Exception as error:  # torch raises anything on a file that it did not write
        raise _damaged(name, error) from error


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in nested containers."""
    import torch

    waiting, seen = [value], set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, Mapping):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            waiting += value


@contextmanager
def archive(path: Path) -> Iterator[ZipFile]:
    """A zip archive whose members together are not too large to be read.

    Raises:
        DamagedFileError: They are, or it is no archive, or one of its members is damaged.
    """
    size_of(path)
    with _zip(path, str(path)) as members:
        yield members


@contextmanager
def _zip(source: Path | BytesIO, name: str) -> Iterator[ZipFile]:
    import zipfile
    import zlib

    try:
        with zipfile.ZipFile(source) as members:
            names = members.namelist()
            if len(names) != len(set(names)):
                raise DamagedFileError(f"{name}: two of its members have one name")
            # What is read of a member is never more than it says; members may share what they are read from.
            whole = sum(member.file_size for member in members.infolist())
            size = source.stat().st_size if isinstance(source, Path) else source.getbuffer().nbytes
            _bound(name, whole, max(MOST_UNPACKED, size), "bytes")
            yield members
    # zipfile says that a member's compression is not known by NotImplementedError, which is a RuntimeError.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise _damaged(name, error) from error


def _bound(name: Path | str, amount: int, most: int, what: str) -> None:
    if amount > most:
        raise DamagedFileError(f"{name}: {amount:,} {what} are more than any such file has")


def _damaged(name: Path | str, error: Exception) -> Exception:
    """The error of a library as ours; that of a disk, or one of ours, as it is."""
    if isinstance(error, DamagedFileError) or (isinstance(error, OSError) and error.errno):
        return error
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return DamagedFileError(f"{name}: cannot be read ({lines[0][:160]})")
