"""Every verb, from a wheel, in a folder that was empty."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dtx import verbs
from tests.fast import FAST

TINY = [*(o for o in FAST if not o.startswith("analysis.")), "tracking.enabled=false"]
VERBS: dict[str, tuple[list[str], int, str]] = {
    "plan": (["analysis=[demonstrations]", *TINY], 0, "nothing to run"),
    "run": (["-m", "dataset.seed=0,1", "target=dataset", *TINY], 0, "2 jobs"),
    "compare": ([], 0, "figure: "),
    "status": ([], 0, "rollouts"),
    "ls": (["dt"], 0, "small"),
    "cp": (["dt/small", "own", "--as", "mine"], 0, "mine.yaml"),
    "redraw": (["demonstrations", "analysis=[demonstrations]", *TINY], 0, "redrawn"),
    "export": (["decision_transformer", "handed"], 0, "handed"),
    "import": (["handed", "--as", "back"], 0, "dt=back"),
    "track": ([], 0, "MLflow"),
    "gc": ([], 0, "decision_transformer"),
    "invalidate": (["demonstrations"], 0, "set aside"),
    "completion": (["bash"], 0, "complete"),
    "reproduce": (["memory_dt", "dt.steps=-1"], 2, "dt.steps"),  # after its numbers were found
    "app": (
        ["--scene", "#1&m=demo&w=key/left&a=ff&e=set_rtg:value=0:scope=all", "--yaml"],
        0,
        "variants: [key/left",
    ),
    "ui": (["--uri", "nowhere"], 2, "neither a database nor a server"),
}
"""Arguments, exit status and words of the answer; in this order each finds what it needs."""


@pytest.fixture(scope="module")
def dtx(installed, tmp_path_factory) -> Callable[[list[str]], subprocess.CompletedProcess]:
    folder = tmp_path_factory.mktemp("empty")
    names = ("PYTHONPATH", "MLFLOW_TRACKING_URI")
    environment = {k: v for k, v in os.environ.items() if k not in names}
    environment |= {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def run(args: list[str]) -> subprocess.CompletedProcess:
        command = [str(installed), "-P", "-m", "dtx", *args]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)

    for what in ("analysis=[demonstrations]", "target=dt"):
        first = run(["run", what, *TINY])
        assert first.returncode == 0, first.stdout + first.stderr
    return run


def test_no_verb_is_left_out():
    assert set(VERBS) == set(verbs.names())


def test_every_verb_works_in_turn(dtx, installed):
    wrong = {}
    for verb, (args, status, words) in VERBS.items():
        done = dtx([verb, *args])
        said = done.stdout + done.stderr
        if done.returncode != status or words not in said:
            wrong[verb] = f"status {done.returncode}: {said[-500:]}"
    assert not wrong, "\n\n".join(f"{verb}: {what}" for verb, what in wrong.items())
    where = subprocess.run(
        [installed, "-I", "-c", "import dtx; print(dtx.__file__)"], capture_output=True, text=True
    )
    assert str(Path(installed).parent.parent) in where.stdout, "the clone's dtx was imported"
