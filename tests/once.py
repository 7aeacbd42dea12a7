"""What tests only read is made once for all processes of a session, in a folder that they share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder of the session that ``make`` filled; made by the first process that asks, for all.

    Args:
        factory: Of pytest. name: Of the folder; one for each thing that is made.
        make: Called with the path, at which there is nothing yet.
    """
    base = factory.getbasetemp()
    # Workers' folders lie in one of this session; without workers the parent outlives the session.
    place = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = place / name, place / f"{name}.done"
    with FileLock(place / f"{name}.lock"):
        if not done.exists():
            make(folder)
            done.touch()
    return folder
