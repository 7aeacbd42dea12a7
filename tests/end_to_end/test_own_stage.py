"""The pages on stages and analyses of your own, done as they say: from a wheel, outside the clone."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fast import FAST

ROOT = Path(__file__).parent.parent.parent
PAGES = {
    "entropy": (ROOT / "docs" / "own_stage.md").read_text(),
    "sureness": (ROOT / "docs" / "own_analysis.md").read_text(),
}
"""By the stage that the page writes."""
TINY = [o for o in FAST if o.startswith(("agent.", "dataset."))]


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Path:
    """The two files of each page."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "conf" / "analysis").mkdir(parents=True)
    for name, page in PAGES.items():
        (python,) = re.findall(r"```python\n(.*?)```", page, re.S)
        (yaml,) = re.findall(r"```yaml\n(.*?)```", page, re.S)
        (folder / f"{name}.py").write_text(python)
        (folder / "conf" / "analysis" / f"{name}.yaml").write_text(yaml)
    return folder


@pytest.fixture
def dtx(installed, lab) -> Callable[..., str]:
    """The command, from the wheel, in the lab: gives what it prints."""
    environment = {
        **{k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }

    def run(*args: str, status: int = 0) -> str:
        # -P: what `dtx` on the PATH does; `python -m` alone would add the working directory.
        done = subprocess.run(
            [installed, "-P", "-m", "dtx", *args],
            cwd=lab,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.mark.slow  # the page on an analysis goes the same way
def test_the_page_on_a_stage_works_from_a_wheel(dtx, installed, lab):
    where = subprocess.run(
        [installed, "-I", "-c", "import dtx; print(dtx.__file__)"],
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
    assert "3 jobs: 1 reused, 2 ran; 2 stages ran" in told or "2 ran, 1 reused" in told
    assert "entropy_mean_by_analysis.entropy.pseudocount.png" in dtx("compare")

    source = lab / "entropy.py"
    source.write_text(source.read_text().replace("np.log2", "np.log"))
    assert "code changed: entropy.py" in dtx("plan", "analysis=entropy", *TINY)


def test_its_mistakes_are_one_line(dtx):
    wrong = "analysis.entropy.pseudocount=-1"
    (line,) = dtx("plan", "analysis=entropy", wrong, status=2).splitlines()
    assert "analysis.entropy.pseudocount: must be 0 or more, not -1" in line


def test_the_page_on_an_analysis_works_from_a_wheel(dtx, lab):
    """Its result is typed and judged, its figure redrawn; where a need is not met, plan refuses it."""
    lines = (lab / "sureness.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 60
    tiny = [*TINY, *(o for o in FAST if o.startswith("dt."))]
    chosen = "analysis=[sureness,report]"
    dtx("run", chosen, *tiny, "tracking.enabled=false")
    (folder,) = (lab / "store").glob("sureness-*")
    result = json.loads((folder / "result.json").read_text())
    (check,), (control,) = result["checks"], result["controls"]
    assert check["holds"] and check["error"] <= check["tolerance"]
    assert control["value"] == result["metrics"]["bits"]
    assert control["holds"] is (control["value"] < control["against"]) is result["established"]
    (report,) = (lab / "store").glob("report-*/figures/report.html")
    assert "How sure is the model where it decides?" in report.read_text()

    figure = folder / "figures" / "sureness.png"
    before = figure.read_bytes()
    source = lab / "sureness.py"
    source.write_text(source.read_text().replace("entropy at the decision (bits)", "bits"))
    dtx("redraw", chosen, *tiny, "tracking.enabled=false")
    assert figure.read_bytes() != before

    need = ["env=door_key", "pairs=door_key", "dt.model.n_timesteps=250"]
    (line,) = dtx("plan", "analysis=[sureness]", *need, status=2).splitlines()
    assert line in PAGES["sureness"]  # the page shows it
