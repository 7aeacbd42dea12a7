import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_oldest_transformer_lens_that_we_allow_reads_our_models_too(tmp_path):
    """An environment of its own that takes everything but transformer-lens from this one."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    here = [p for p in sys.path if p.endswith("site-packages")]
    (site / "others.pth").write_text("\n".join([*here, str(ROOT)]))
    install = [python, "-m", "pip", "install", "-q", "transformer-lens==3.9.0"]
    subprocess.run(install, check=True, timeout=600)
    tests = [
        "tests/dt/test_transformer_lens.py",
        "tests/dt/test_model.py",
        "tests/app/test_prompt.py",
    ]
    command = [python, "-m", "pytest", "-n", "0", "-q", "-W", "default", *tests]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    seen = "import transformer_lens as t; print(t.__file__)"
    found = subprocess.run([python, "-c", seen], capture_output=True, text=True, check=True)
    assert str(tmp_path) in found.stdout
