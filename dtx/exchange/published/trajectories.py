"""The studies' trajectory files, which are pickles, as plain arrays.

A pickle can run any program when it is read. So a separate process with bounded memory reads it and
makes only numpy's arrays and plain containers: objects of other classes come back empty. It writes an
``.npz`` without objects.

Format: ``{"data": {"observations", "actions", "rewards", "dones", "truncated", ...}, "metadata": {"args"}}``,
arrays (step of the collection, environment, ...), compressed by gzip or xz or not at all.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from dtx.errors import UserError

ARRAYS = ("observations", "actions", "rewards", "dones", "truncated")
_LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def is_pickle(file: Path) -> bool:
    """Whether a file is a pickle, compressed or not, and not torch's old format; by its first bytes.

    Raises:
        UserError: It cannot be read.
    """
    try:
        with file.open("rb") as stream:
            start = stream.read(len(_LEGACY_TORCH))
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None
    compressed = start.startswith((b"\x1f\x8b", b"\xfd7zXZ"))
    return compressed or (start[:1] == b"\x80" and start[1:2] <= b"\x05" and start != _LEGACY_TORCH)


def unpickled(file: Path) -> dict[str, np.ndarray]:
    """The arrays of :data:`ARRAYS`, and ``env``: a text, empty where the file names none.

    Raises:
        UserError: The file is not of the format; the reason is the reading process's.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "arrays.npz"
        command = [
            sys.executable,
            "-I",
            str(Path(__file__).with_name("unpickle.py")),
            str(file.absolute()),  # the process works in another folder
            str(out),
        ]
        # Nothing of this process's environment: no tokens, no paths.
        process = subprocess.run(
            command, env={}, capture_output=True, encoding="utf-8", errors="replace", cwd=folder
        )
        if process.returncode:
            lines = process.stderr.strip().splitlines() or [f"exit status {process.returncode}"]
            raise UserError(f"{file.name}: cannot be read as trajectories ({lines[-1][:200]})")
        with np.load(out, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in (*ARRAYS, "env")}


def environment_of(file: Path) -> str:
    """Id of the environment that the trajectories are from."""
    return str(unpickled(file)["env"])
