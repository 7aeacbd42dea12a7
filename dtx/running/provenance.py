"""Provenance of an artefact (code, packages, host), for ``done.json`` and the MLflow run."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from dtx.running import drift
from dtx.stage import Stage

_PACKAGES = (
    "dtx",
    "torch",
    "pytorch-lightning",
    "transformer-lens",
    "numpy",
    "pandas",
    "pyarrow",
    "safetensors",
    "minigrid",
    "envpool",
    "gymnasium",
    "mlflow",
    "hydra-core",
    "omegaconf",
)
_DIFF_CHARACTERS = 200_000


def provenance(stage: Stage) -> dict[str, Any]:
    """The record of a stage, as far as it is known before it runs."""
    return {
        "stage": stage.name,
        "class": f"{type(stage).__module__}.{type(stage).__qualname__}",
        "version": stage.version,
        "key": stage.key,
        "config": stage.config(),
        "inputs": {field: s.label for field, s in stage.inputs().items()},
        "source": drift.sources(stage),
        "git": git_state(stage.source_file().resolve().parent),
        "packages": versions(),
        "host": f"{platform.node()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
    }


@cache
def versions() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    installed = {}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed


_SETTINGS = [
    word
    for setting in (
        "safe.directory=*",  # a clone of another user is read all the same
        "core.quotePath=false",
        "diff.noprefix=false",
        "diff.mnemonicPrefix=false",
        "diff.context=3",
    )
    for word in ("-c", setting)
]
"""What a user's own settings of git may not change in our record."""


def _environment() -> dict[str, str]:
    """Ours, without what would make git answer for another clone or in another language."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {**kept, "LC_ALL": "C"}


@cache
def git_state(folder: Path) -> dict[str, Any]:
    """Commit, uncommitted changes and untracked Python files of the clone that holds a stage's source.

    Empty where there is no clone: for an installed wheel.
    """

    def git(*args: str) -> str:
        command = ["git", *_SETTINGS, "-C", str(folder), *args]
        done = subprocess.run(command, capture_output=True, check=True, env=_environment())
        return done.stdout.decode(errors="backslashreplace")  # files and names need not be UTF-8

    try:
        top = git("rev-parse", "--show-toplevel").rstrip("\n")
        if git("ls-files", "--error-unmatch", str(folder)).strip() == "":
            return {}
        others = git("ls-files", "-z", "--others", "--exclude-standard", "--full-name", top, "*.py")
        diff = git("diff", "--no-ext-diff", "--no-textconv", "--no-color", "HEAD", "--", top)
        return {
            "sha": git("rev-parse", "HEAD").strip(),
            "diff": diff[:_DIFF_CHARACTERS],
            "untracked": [name for name in others.split("\0") if name],
        }
    except (OSError, subprocess.CalledProcessError):
        return {}


_ranks_cpu_seconds, _ranks_peak_memory_mb = 0.0, 0


def own_cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    # Not os.times(): it counts in hundredths of a second.
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def cpu_seconds() -> float:
    """The same with the ranks of a training that have ended: they are not children of this process."""
    return own_cpu_seconds() + _ranks_cpu_seconds


def peak_memory_mb() -> int:
    """Peak memory of one process so far; if only one stage is run, the stage's."""
    return max(_own_peak_memory_mb(), _ranks_peak_memory_mb)


def _own_peak_memory_mb() -> int:
    try:  # getrusage's has that of the process which started this one, until it replaced its program
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) // 1024
    except (OSError, IndexError):  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def add_rank(cpu_seconds: float, peak_memory_mb: int) -> None:
    """Add the resources that a rank of a training has used."""
    global _ranks_cpu_seconds, _ranks_peak_memory_mb
    _ranks_cpu_seconds += cpu_seconds
    _ranks_peak_memory_mb = max(_ranks_peak_memory_mb, peak_memory_mb)
