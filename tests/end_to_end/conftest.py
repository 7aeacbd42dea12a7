"""What tests of whole commands share."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.end_to_end.material import ROOT
from tests.once import once


@pytest.fixture(scope="session")
def material(tmp_path_factory) -> Path:
    """The folder of material.py, made once for all processes of the tests; copy it before you change it."""

    def make(folder: Path) -> None:
        command = [sys.executable, "-m", "tests.end_to_end.material", str(folder)]
        subprocess.run(command, cwd=ROOT, check=True)

    return once(tmp_path_factory, "material", make)


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> Path:
    """An interpreter that has dtx from its wheel; other packages come from the environment of the tests."""
    return once(tmp_path_factory, "installed", _install) / "venv" / "bin" / "python"


def _install(folder: Path) -> None:
    folder.mkdir()
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
    assert python.exists()
