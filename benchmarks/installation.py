"""Size and time of what `make run` installs: `python benchmarks/installation.py [CHECKOUT ...]`.

Each checkout (default: this one) is copied into an empty folder, where `make run ARGS=--help` makes the
environment; then the lines of docs/install.md for `uv`, if it is there. Packages come from the network or
from the cache, as on this machine. CPU seconds do not depend on what else runs here; wall seconds do.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).absolute().parent.parent
UV = (
    "uv venv --quiet --python 3.11 .venv",
    "uv pip install --quiet --python .venv --constraint constraints.txt --editable . dm-env optree",
    "uv pip install --quiet --python .venv --constraint constraints.txt --no-deps envpool",
)
"""As docs/install.md has them; tests/test_installation.py compares."""


def measure(commands: list[str], folder: Path) -> list[str]:
    """Run commands in a folder; gives wall and CPU seconds, megabytes and the number of packages."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    for command in commands:
        subprocess.run(command, shell=True, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    blocks = {  # a file with two names counts once
        (s.st_dev, s.st_ino): s.st_blocks
        for base, _, files in os.walk(folder / ".venv")
        for s in (os.lstat(Path(base, name)) for name in files)
    }
    packages = list((folder / ".venv").glob("lib/python*/site-packages/*.dist-info"))
    size = sum(blocks.values()) * 512 / 1e6
    return [f"{wall:.0f}", f"{cpu:.0f}", f"{size:,.0f}", str(len(packages))]


def main() -> None:
    """Print a row for each checkout, and one for uv."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("checkouts", nargs="*", type=Path, default=[ROOT])
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("checkout", "with", "wall s", "CPU s", "MB", "packages"):
        table.add_column(name, justify="left" if name in ("checkout", "with") else "right")
    for checkout in parser.parse_args().checkouts:
        ways = {"make run": ["make run ARGS=--help"]}
        if shutil.which("uv") and (checkout / "docs" / "install.md").exists():
            ways["uv"] = list(UV)
        for way, commands in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                archive = f"git -C {checkout.absolute()} archive HEAD | tar -x"
                subprocess.run(archive, shell=True, cwd=folder, check=True)
                table.add_row(checkout.absolute().name, way, *measure(commands, Path(folder)))
    Console().print(table)


if __name__ == "__main__":
    main()
