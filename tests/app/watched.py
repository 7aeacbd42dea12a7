"""`dtx` in this process, with a list of what it opens and starts between SIGUSR1 and SIGUSR2.

python -m tests.app.watched app

At the end the list is printed as JSON: ``[event, path or name, whether it writes]``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from dtx.cli import main

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = (
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
)
_STARTS = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "socket.connect",
)
_RUNS = ("pickle.find_class", "ctypes.dlopen", "webbrowser.open")


def watch() -> list[tuple[str, str, bool]]:
    """Gets an entry for each event between the two signals."""
    seen: list[tuple[str, str, bool]] = []
    watching = []
    signal.signal(signal.SIGUSR1, lambda *_: watching.append(True))
    signal.signal(signal.SIGUSR2, lambda *_: watching.clear())

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if not watching:
            return
        if event == "open":
            path, _, flags = arguments
            seen.append((event, os.fspath(path) if path is not None else "", bool(flags & _WRITES)))
        elif event in (*_CHANGES, *_STARTS, *_RUNS):
            seen.append((event, repr(arguments), True))

    sys.addaudithook(hook)
    return seen


if __name__ == "__main__":
    seen = watch()
    status = main(sys.argv[1:])
    print(json.dumps(sorted(set(map(tuple, ((e, str(p), w) for e, p, w in seen))))))
    sys.exit(status)
