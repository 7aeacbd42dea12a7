"""Every verb, from a wheel, in a folder that was empty."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

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


IN_TURN = """
import contextlib, io, json, sys, traceback
from dtx.cli import main
answers = []
for args in json.load(sys.stdin):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            status = main(args)
        except SystemExit as end:  # argparse
            status = end.code
        except BaseException:
            status = traceback.print_exc() or 1
    answers.append([status, said.getvalue()])
import dtx
json.dump([dtx.__file__, answers], sys.stdout)
"""
"""Gives one command after the other in one process: each alone would import for longer than it works."""


def test_no_verb_is_left_out():
    assert set(VERBS) == set(verbs.names())


def test_every_verb_works_in_turn(installed, tmp_path):
    names = ("PYTHONPATH", "MLFLOW_TRACKING_URI")
    environment = {k: v for k, v in os.environ.items() if k not in names}
    environment |= {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def python(*args: str, told: str = "") -> subprocess.CompletedProcess:
        command = [str(installed), "-P", *args]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, input=told, capture_output=True, text=True
        )

    first = python("-m", "dtx", "run", "analysis=[demonstrations]", *TINY)
    assert first.returncode == 0, first.stdout + first.stderr
    commands = {"a model": (["run", "target=dt", *TINY], 0, "")}
    commands |= {
        verb: ([verb, *args], status, words) for verb, (args, status, words) in VERBS.items()
    }
    done = python("-c", IN_TURN, told=json.dumps([args for args, _, _ in commands.values()]))
    assert done.returncode == 0, done.stderr
    where, answers = json.loads(done.stdout)
    wrong = {}
    for (verb, (_, wanted, words)), (status, said) in zip(commands.items(), answers, strict=True):
        if status != wanted or words not in said:
            wrong[verb] = f"status {status}: {said[-500:]}"
    assert not wrong, "\n\n".join(f"{verb}: {what}" for verb, what in wrong.items())
    assert str(Path(installed).parent.parent) in where, "the clone's dtx was imported"
