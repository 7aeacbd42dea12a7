"""What tests of whole commands share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from tests.end_to_end.material import ROOT


@pytest.fixture(scope="session")
def material(tmp_path_factory, worker_id: str) -> Path:
    """The folder of material.py, made once for all processes of the tests; copy it before you change it."""
    place = tmp_path_factory.getbasetemp()
    place = place if worker_id == "master" else place.parent
    folder = place / "material"
    with FileLock(place / "material.lock"):
        if not (place / "material.done").exists():
            command = [sys.executable, "-m", "tests.end_to_end.material", str(folder)]
            subprocess.run(command, cwd=ROOT, check=True)
            (place / "material.done").touch()
    return folder
