"""The files of stored activations, and how they are read: as mapped arrays, or in batches from the disk.

::

    <hook>.f16 or <hook>.f32  (rows, width) little-endian, one row after the other
    tokens.arrow              the same rows: which token each is, how often it occurs, its parts of splits
    activations.json          rows, width of each hook, number type, kinds of tokens that are stored,
                              layout: of those that the model reads; model and demonstrations

Letters: r stored rows, w width of a hook's vector, b rows of a batch.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dtx.activations.spec import Numbers
from dtx.dt.tokens import KINDS
from dtx.errors import UnknownName, UserError
from dtx.files import read_json, size_of, taken_from
from dtx.report import write_atomically
from dtx.text import suggest

if TYPE_CHECKING:
    import pandas as pd

ABOUT, TOKENS = "activations.json", "tokens.arrow"
READ_TOGETHER = 2_048
"""Neighbouring rows that are read at once; blocks of them are what a pass over the rows shuffles first."""
POOL = 32
"""Blocks whose rows are shuffled together."""
COLUMNS = {
    "episode": np.int32,
    "step": np.int32,
    "kind": np.int8,
    "start": np.int32,
    "padding": np.int16,
    "view": np.int32,
    "prefix": np.int64,
    "count": np.int32,
    "count_held_out": np.int32,
    "by_episode": np.int8,
    "by_prefix": np.int8,
    "by_view": np.int8,
}
"""Of ``tokens.arrow``; :attr:`Activations.tokens` says what they are."""


class Part(enum.IntEnum):
    """Which part of a split a row belongs to."""

    TRAIN = 0
    HELD_OUT = 1
    NEITHER = 2


PARTS = ("train", "held out", "neither")
"""Names of the parts by their number."""


def file_of(folder: Path, hook: str, numbers: Numbers) -> Path:
    """The file of a hook."""
    return folder / f"{hook}.f{8 * numbers.dtype.itemsize}"


def write_tokens(folder: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write ``tokens.arrow``, whole or not at all."""
    arrays = [pa.array(columns[name].astype(kind, copy=False)) for name, kind in COLUMNS.items()]
    schema = pa.schema([(n, a.type) for n, a in zip(COLUMNS, arrays, strict=True)])
    partial = folder / f"{TOKENS}.partial"
    with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))
    partial.replace(folder / TOKENS)


def write_about(
    folder: Path, rows: int, widths: Mapping[str, int], numbers: Numbers, **more: Any
) -> None:
    """Write ``activations.json``; ``more`` is what else there is to know."""
    about = {"rows": rows, "hooks": dict(widths), "numbers": numbers.value, **more}
    write_atomically(folder / ABOUT, json.dumps(about, indent=1) + "\n")


class Activations:
    """Stored activations.

    Args:
        folder: Of the artefact.

    Attributes:
        hooks: Width of the vectors by hook.
        about: All of ``activations.json``.

    Raises:
        UserError: A file is missing, damaged, or shorter than it says.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        path = folder / ABOUT
        with taken_from(path):
            self.about: dict[str, Any] = read_json(path)
            self._rows = int(self.about["rows"])
            self.hooks = {str(k): int(v) for k, v in self.about["hooks"].items()}
            self.numbers = Numbers(self.about["numbers"])
        for hook, width in self.hooks.items():
            file = file_of(folder, hook, self.numbers)
            wanted = self._rows * width * self.numbers.dtype.itemsize
            if not file.is_file() or size_of(file) != wanted:
                raise UserError(
                    f"{file}: is missing or has not the {wanted:,} bytes of {self._rows:,} rows of "
                    f"{width}; `dtx invalidate {folder.name}` sets it aside"
                )

    def __len__(self) -> int:
        return self._rows

    def array(self, hook: str) -> np.ndarray:
        """(r, w) of a hook, mapped from the file: rows are read when they are used.

        Raises:
            UnknownName: That hook was not stored, with a suggestion.
        """
        path, width = self._file(hook)
        return np.memmap(path, self.numbers.dtype, "r", shape=(self._rows, width))

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """The columns of ``tokens.arrow`` as views of the file: what :attr:`tokens` has, codes for names."""
        path = self.folder / TOKENS
        try:
            batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
            batch.validate(full=True)
            found = {n: batch.column(n).to_numpy(zero_copy_only=True) for n in COLUMNS}
        except (OSError, ValueError, KeyError, IndexError, pa.ArrowException) as error:
            what = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"{path}: cannot be read ({what[:150]}); `dtx invalidate {self.folder.name}` sets it aside"
            ) from None
        wrong = [n for n, kind in COLUMNS.items() if found[n].dtype != kind]
        if wrong or len(found["prefix"]) != self._rows:
            raise UserError(
                f"{path}: has not the columns of {self._rows:,} rows; "
                f"`dtx invalidate {self.folder.name}` sets it aside"
            )
        return found

    @cached_property
    def tokens(self) -> pd.DataFrame:
        """One line a stored row, in the same order.

        ``episode`` and ``step`` in the demonstrations: one place at which the prefix occurs. ``kind``: R, S
        or A. ``start``: the step at which the window starts. ``padding``: steps of padding before it.
        ``view``: row of the demonstrations' table of observations that is seen at the step; -1 for an R
        token, which stands before it. ``prefix``: number of the prefix, the same whatever the seed.
        ``count``: how often it occurs in the windows; ``count_held_out``: in held-out episodes.
        ``by_episode``, ``by_prefix``, ``by_view``: its part of each split.
        """
        import pandas as pd

        names = {"kind": KINDS, "by_episode": PARTS, "by_prefix": PARTS, "by_view": PARTS}
        return pd.DataFrame(
            {
                name: pd.Categorical.from_codes(column, list(names[name]))
                if name in names
                else column
                for name, column in self.columns.items()
            }
        )

    def rows(self, by: str, part: Part = Part.TRAIN) -> np.ndarray:
        """Numbers of the rows in a part of a split.

        Args:
            by: ``episode``: rows that occur in such episodes only. ``prefix``: a share of the distinct
                prefixes. ``view``: rows at whose step such a view is seen.
            part: Training, held out, or neither: an R token has no view; a prefix may occur in both.

        Raises:
            UserError: There is no such split.
        """
        known = ("episode", "prefix", "view")
        if by not in known:
            raise UserError(f"activations: no split by {by!r}{suggest(by, known)}")
        return np.flatnonzero(self.columns[f"by_{by}"] == part)

    def batches(
        self,
        hook: str,
        size: int,
        *,
        rows: np.ndarray | None = None,
        seed: int = 0,
        passes: int | None = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield activations (b, w) float32 and their row numbers (b,), each pass in a new order.

        They are read in blocks, not mapped: memory does not grow with what has been read. The order is a
        function of the seed. Rows that fill no batch at the end of a pass are left out of it.

        Args:
            hook: Which.
            size: Rows of a batch.
            rows: Only these; None: all.
            seed: Of the order.
            passes: Over all rows; None: without end.

        Raises:
            UserError: There are fewer rows than a batch takes, or that hook was not stored.
        """
        path, width = self._file(hook)
        wanted = None if rows is None else np.bincount(rows, minlength=self._rows).astype(bool)
        there = self._rows if wanted is None else int(wanted.sum())
        if there < size:
            raise UserError(f"activations: {there} rows are fewer than one batch of {size}")
        return self._shuffled(path, width, size, wanted, seed, passes)

    @property
    def blocks(self) -> int:
        """How many blocks of neighbouring rows there are."""
        return -(-self._rows // READ_TOGETHER)

    def block(
        self, hook: str, number: int, wanted: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read a block of neighbouring rows: values (b, w) in the file's number type, row numbers (b,).

        Args:
            hook: Which.
            number: Of the block, from 0 on.
            wanted: (r,) bool: only these rows of it; None: all.

        Raises:
            UnknownName: That hook was not stored, with a suggestion.
        """
        path, width = self._file(hook)
        return self._block(path, width, number, wanted)

    def _shuffled(
        self,
        path: Path,
        width: int,
        size: int,
        wanted: np.ndarray | None,
        seed: int,
        passes: int | None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        done = 0
        while passes is None or done < passes:
            rng = np.random.Generator(np.random.Philox(key=np.array([seed, done], np.uint64)))
            blocks = rng.permutation(self.blocks)
            left, left_rows = np.zeros((0, width), np.float32), np.zeros(0, np.int64)
            for first in range(0, len(blocks), POOL):
                parts = [self._block(path, width, b, wanted) for b in blocks[first : first + POOL]]
                x = np.concatenate([left, *(values.astype(np.float32) for values, _ in parts)])
                numbers = np.concatenate([left_rows, *(rows for _, rows in parts)])
                del parts
                order = rng.permutation(len(x))
                full = len(x) // size * size
                for begin in range(0, full, size):
                    some = order[begin : begin + size]
                    yield x[some], numbers[some]
                left, left_rows = x[order[full:]], numbers[order[full:]]
            done += 1

    def _block(
        self, path: Path, width: int, block: int, wanted: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        begin = int(block) * READ_TOGETHER
        count = min(READ_TOGETHER, self._rows - begin)
        dtype = self.numbers.dtype
        offset = begin * width * dtype.itemsize
        values = np.fromfile(path, dtype, count * width, offset=offset).reshape(count, width)
        rows = np.arange(begin, begin + count)
        if wanted is not None:
            kept = wanted[begin : begin + count]
            values, rows = values[kept], rows[kept]
        return values, rows

    def _file(self, hook: str) -> tuple[Path, int]:
        if hook not in self.hooks:
            raise UnknownName(f"no activations of {hook!r}{suggest(hook, list(self.hooks))}")
        return file_of(self.folder, hook, self.numbers), self.hooks[hook]
