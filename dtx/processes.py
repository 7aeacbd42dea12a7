"""Which process this is, and whether another one is still alive."""

from __future__ import annotations

import os
import socket

import psutil


def process_tags() -> dict[str, str]:
    """Host and process, as tags of a run; the process by number and start, as numbers are used again."""
    return {
        "dtx.host": socket.gethostname(),
        "dtx.process": f"{os.getpid()}:{_started(os.getpid())}",
    }


def alive(process: str) -> bool:
    """Whether a process of this host, as :func:`process_tags` names it, still runs."""
    number, _, started = process.partition(":")
    return _started(int(number)) == started


def _started(number: int) -> str:
    """When a process started; empty if there is none."""
    try:
        return f"{psutil.Process(number).create_time():.0f}"
    except psutil.Error:
        return ""
