"""Kill a run of dtx in several of its stages, then let it end.

python -m tests.end_to_end.kills FOLDER run ...

The processes are forked from this one, which has imported everything: what is killed is work, not imports.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.end_to_end.forked import prepare, start

STAGES = ("ppo", "decision_transformer", "calibration")


def kill_in_each(here: Path, arguments: Sequence[str]) -> tuple[int, int, str]:
    """SIGKILL in each of :data:`STAGES`, and the command once more.

    Returns:
        Kills, the last command's exit status and its words.
    """
    kills, said = 0, here.parent / "said.txt"
    for stage in STAGES:
        process = start(arguments, here, said)
        while process.poll() is None:
            work = list((here / "store" / ".work").glob(f"{stage}-*"))
            if work and (stage == "calibration" or (work[0] / "resume.ckpt").exists()):
                process.send_signal(signal.SIGKILL)
                kills += process.wait() == -signal.SIGKILL
                break
            time.sleep(0.005)
    status = start(arguments, here, said).wait()
    return kills, status, said.read_text()


if __name__ == "__main__":
    prepare()
    print(json.dumps(kill_in_each(Path(sys.argv[1]), sys.argv[2:])))
