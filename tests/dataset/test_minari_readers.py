"""d3rlpy, which reads Minari, trains on our demonstrations.

It pins gymnasium 1.0, so it gets an environment of its own, which sees the packages of this one and adds
d3rlpy without its pins (34 MB, half a minute).
"""

import json
import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import dtx
from dtx.agent.agent import AgentStage
from dtx.cli import main
from dtx.config.compose import build_group
from dtx.dataset.rollouts import Rollouts, Share
from dtx.running.runner import run

pytest.importorskip("minari")

REQUIREMENTS = [
    "d3rlpy==2.8.1",
    "gym==0.26.2",
    "gym-notices==0.1.0",
    "dataclasses-json==0.6.7",
    "marshmallow==3.26.2",
    "typing-inspect==0.9.0",
    "mypy_extensions",
    "structlog",
    "colorama",
]
READER = Path(__file__).with_name("read_with_d3rlpy.py")


@dataclass(frozen=True, kw_only=True)
class AlongWalls(AgentStage):
    """Goes on where the cell ahead is free and turns at a wall: what it does follows from the view."""

    def run(self, out: Path) -> None:
        (out / "rule.txt").write_text("forward; left at a wall\n")

    def load(self):
        return self

    def initial_memory(self, n: int) -> torch.Tensor:
        return torch.zeros(n, 0)

    def step(self, observations, memory):
        wall = np.asarray(observations)[:, 3, 5, 0] == 2
        logits = torch.zeros(len(wall), 7)
        logits[torch.arange(len(wall)), torch.from_numpy(np.where(wall, 0, 2))] = 4.0
        return logits, torch.zeros(len(wall)), memory


@pytest.mark.slow
def test_d3rlpy_trains_on_our_demonstrations(store, experiment_of, tmp_path):
    recorded = Rollouts(
        env=build_group("env/memory"),
        agent=AlongWalls(),
        episodes=150,
        mixture=(Share(temperature=1, share=1),),
        environments=16,
        validation=0.1,
        seed=0,
        facts=False,
    )
    run(experiment_of(recorded))
    where = ["--store", str(store.root), "--as", "dtx/walls-v0"]
    assert main(["export", recorded.label, str(tmp_path / "sets"), *where]) == 0
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    seen = tmp_path / "venv" / "lib" / version / "site-packages" / "ours.pth"
    paths = [Path(torch.__file__).parents[1], Path(dtx.__file__).parents[1]]
    seen.write_text("".join(f"{path}\n" for path in paths))
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", *REQUIREMENTS], check=True)
    done = subprocess.run(
        [python, READER, tmp_path / "sets", "dtx/walls-v0"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(told))
    episodes = recorded.load()
    assert told["episodes"] == 150 and told["steps"] == len(episodes.action)
    assert told["env"] == "dtx/MemoryS7FixedStart-v0"
    chance = told["chance"]
    assert told["clone"]["accuracy"] > chance["accuracy"] + 0.08
    for kind in ("clone", "transformer"):
        losses = told[kind]
        assert losses["last"] < losses["first"] - 0.2 and losses["last"] < chance["loss"] - 0.1, (
            kind
        )
