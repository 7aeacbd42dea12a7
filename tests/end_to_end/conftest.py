"""What tests of whole commands share."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
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


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> Path:
    """An interpreter that has dtx from its wheel; other packages come from the environment of the tests."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True, cwd=folder
    )
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    site = sysconfig.get_path("purelib", vars={"base": str(folder / "venv")})
    (wheel,) = folder.glob("dtx-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel], check=True)
    # A .pth in this folder is not read again for its own .pth files, so the editable dtx stays out.
    (Path(site) / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python
