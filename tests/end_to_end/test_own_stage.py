"""The page docs/own_stage.md, done as it says: from an installed wheel, in a folder that is not the clone."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.fast import FAST

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "own_stage.md").read_text()
TINY = [o for o in FAST if o.startswith(("agent.", "dataset."))]


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Path:
    """The two files of the page."""
    folder = tmp_path_factory.mktemp("lab")
    (python,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    (yaml,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    (folder / "entropy.py").write_text(python)
    (folder / "conf" / "analysis").mkdir(parents=True)
    (folder / "conf" / "analysis" / "entropy.yaml").write_text(yaml)
    return folder


def test_the_page_works_from_a_wheel(installed, lab):
    environment = {
        **{k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }

    def dtx(*args: str) -> str:
        # -P: what `dtx` on the PATH does; `python -m` alone would add the working directory.
        done = subprocess.run(
            [installed, "-P", "-m", "dtx", *args],
            cwd=lab,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    where = subprocess.run(
        [installed, "-P", "-c", "import dtx; print(dtx.__file__)"],
        capture_output=True,
        text=True,
        cwd=lab,
    )
    assert str(installed.parent.parent) in where.stdout, "the clone's dtx was imported"

    assert "1 entropy to run (new)" in dtx("plan", "analysis=entropy", *TINY)
    assert "3 of 3 stages ran" in dtx("run", "analysis=entropy", *TINY)
    assert "everything reused" in dtx("run", "analysis=entropy", *TINY)
    assert (lab / "mlflow.db").exists()

    values = "analysis.entropy.pseudocount=0,0.5,1"
    told = dtx("run", "-m", "analysis=entropy", values, *TINY)
    assert "3 jobs: 1 cached, 2 ran; 2 stages ran" in told or "2 ran, 1 cached" in told
    assert "entropy_mean_by_analysis.entropy.pseudocount.png" in dtx("compare")

    source = lab / "entropy.py"
    source.write_text(source.read_text().replace("np.log2", "np.log"))
    assert "code changed: entropy.py" in dtx("plan", "analysis=entropy", *TINY)


def test_its_mistakes_are_one_line(installed, lab):
    done = subprocess.run(
        [
            installed,
            "-P",
            "-m",
            "dtx",
            "plan",
            "analysis=entropy",
            "analysis.entropy.pseudocount=-1",
        ],
        cwd=lab,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "analysis.entropy.pseudocount: must not be negative, is -1.0" in line
