"""A process that waits until a command has ended, then ends what is left of the Ray cluster that it started.

    python -m dtx.sweep.after_ray FOLDER

If the command is killed, Ray's agents try for minutes to reach the rest of the cluster. Ray never deletes the
FOLDER of its session. The command holds the other end of standard input, which closes when it ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys

import psutil


def main(folder: str) -> None:
    """Wait, end the processes below the command, and remove the session's folder."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    command = psutil.Process(os.getppid())
    below: set[psutil.Process] = set()
    while not select.select([sys.stdin], [], [], 1)[0]:
        try:
            below.update(command.children(recursive=True))
        except psutil.Error:
            break
    below.discard(psutil.Process())
    for process in psutil.wait_procs(below, timeout=5)[1]:
        with contextlib.suppress(psutil.Error):
            process.kill()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
