"""A folder with one of everything that dtx reads, for commands and files that are made wrong on purpose.

python -m tests.end_to_end.material FOLDER
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.fast import FAST

ROOT = Path(__file__).parents[2]

MINARI = "fuzz/memory-v0"
LONG = ["agent.frames=400000", "agent.seed=5", "target=agent"]
"""A training that is stopped soon after its first checkpoint."""


def make(folder: Path) -> Path:
    """Make it in ``folder``; takes half a minute.

    ``store``: a study from agent to calibration, and an interrupted agent. ``remote``: its copy.
    ``handed``: the Decision Transformer as ``dtx export`` writes it. ``datasets``: the demonstrations for
    Minari. ``teacher.zip``: a policy of Stable-Baselines3, if that is installed. ``conf``: a config of one's
    own. ``mlflow.db``, ``multirun``: of a sweep over two seeds.
    """
    (folder / "remote").mkdir(parents=True)
    dtx(folder, "run", *FAST, "store.remote=remote", "name=study")
    dtx(folder, "run", "-m", *FAST, "target=dt", "dt.seed=0,1", "name=seeds")
    _interrupted(folder, "run", *FAST, *LONG)
    dtx(folder, "export", "decision_transformer", "handed", but_may_fail=True)
    label = next(p.name for p in (folder / "store").glob("decision_transformer-*"))
    if not (folder / "handed").exists():  # there are two
        dtx(folder, "export", label, "handed")
    dtx(folder, "export", "rollouts", "datasets", "--as", MINARI)
    dtx(folder, "cp", "agent/ppo", "conf", "--as", "mine")
    _teacher(folder / "teacher.zip")
    return folder


def dtx(folder: Path, *arguments: str, but_may_fail: bool = False) -> None:
    """Give one command, to its end."""
    command = [sys.executable, "-m", "dtx", *arguments]
    done = subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True)
    if done.returncode and not but_may_fail:
        raise RuntimeError(f"{' '.join(arguments)}:\n{done.stdout}{done.stderr}")


def copy(folder: Path, to: Path) -> Path:
    """A copy to do harm to, without the files that only MLflow reads."""
    left_out = shutil.ignore_patterns("mlartifacts")
    shutil.copytree(folder, to, symlinks=True, ignore=left_out, dirs_exist_ok=True)
    return to


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "MINARI_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def _interrupted(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "dtx", *arguments]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list((folder / "store").glob(".work/*/resume.ckpt")):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError("no checkpoint to stop at")
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.wait()


def _teacher(path: Path) -> None:
    try:
        import gymnasium
        import minigrid  # noqa: F401
        from minigrid.wrappers import ImgObsWrapper
        from stable_baselines3 import PPO
    except ImportError:
        return
    env = ImgObsWrapper(gymnasium.make("MiniGrid-Empty-5x5-v0"))
    PPO("MlpPolicy", env, n_steps=8, batch_size=8, policy_kwargs={"net_arch": [8]}).save(path)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
