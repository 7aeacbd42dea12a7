"""The studies' trajectory files, which are pickles, as plain arrays.

A pickle can run any program when it is read. So a separate process with bounded memory and time reads it
and makes only arrays of numbers and plain containers: objects of other classes come back empty. It writes an
``.npz`` without objects.

Format: ``{"data": {"observations", "actions", "rewards", "dones", "truncated", ...}, "metadata": {"args"}}``,
arrays (step of the collection, environment, ...), compressed by gzip or xz or not at all.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from dtx.errors import UserError
from dtx.files import first_bytes

ARRAYS = ("observations", "actions", "rewards", "dones", "truncated")
_LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def is_pickle(file: Path) -> bool:
    """Whether a file is a pickle, compressed or not, and not torch's old format; by its first bytes.

    Raises:
        UserError: It cannot be read.
    """
    start = first_bytes(file, len(_LEGACY_TORCH))
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
            command,
            env={"OPENBLAS_NUM_THREADS": "1"},  # each thread takes of the memory
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            cwd=folder,
        )
        if process.returncode:
            raise UserError(f"{file.name}: cannot be read as trajectories ({_reason(process)})")
        with np.load(out, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in (*ARRAYS, "env")}


def _reason(process: subprocess.CompletedProcess[str]) -> str:
    """Why the reading process ended, in words."""
    if process.returncode == -signal.SIGXCPU:
        return "it takes more time than a file of its size should"
    lines = process.stderr.strip().splitlines()
    if lines and lines[-1].startswith("MemoryError"):
        return "it needs more memory than is allowed"
    if process.returncode < 0:
        return f"reading it crashed: {signal.Signals(-process.returncode).name}"
    return lines[-1][:200] if lines else f"exit status {process.returncode}"


def environment_of(file: Path) -> str:
    """Id of the environment that the trajectories are from."""
    return str(unpickled(file)["env"])
