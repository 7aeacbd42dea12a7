"""Against SAELens itself, which wants an older transformer-lens: an environment of its own."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = "tests.dictionary.in_sae_lens"


@pytest.mark.slow
def test_sae_lens_reads_ours_writes_what_we_read_and_reaches_what_we_reach(tmp_path):
    """Same rows, same k, width, steps and rate: explained variance at equal L0 within .01."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    here = [p for p in sys.path if p.endswith("site-packages")]
    (site / "others.pth").write_text("\n".join([*here, str(ROOT)]))
    wanted = ["transformer-lens==3.9.0", "sae-lens==6.54.12"]
    subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=True, timeout=800)
    command = [python, "-m", PROGRAM, str(tmp_path / "files")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = (text for text in done.stdout.splitlines() if text.startswith("RESULT"))
    found = json.loads(line.removeprefix("RESULT "))
    assert found["version"] == "6.54.12"
    assert max(found["files"], found["training files"], found["spliced"]) < 1e-5
    assert max(found["kinds"].values()) < 1e-4, found["kinds"]
    explained, l0 = found["explained variance"], found["l0"]
    assert l0["dtx"] == pytest.approx(l0["SAELens"], abs=0.05)
    assert explained["dtx"] == pytest.approx(explained["SAELens"], abs=0.01), explained
    assert min(explained.values()) > 0.8
