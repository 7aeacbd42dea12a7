"""Sessions of work on a stage: how often it was interrupted, and how long it was worked on before.

``sessions.json`` in a stage's work folder lists the sessions: when one started and how many seconds it
lasted, null while it runs. It is not part of the artefact: the commit removes it.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

from dtx.files import read_json
from dtx.progress import PROGRESS
from dtx.report import write_atomically

SESSIONS = "sessions.json"


def begin(work: Path) -> None:
    """Record that a session starts; call while holding the stage's lock.

    A session without an end was killed: it lasted at least until the newest file was written.
    """
    sessions = _read(work)
    for session in sessions:
        if session["seconds"] is None:
            session["seconds"] = max(0.0, _newest(work) - session["started"])
    _write(work, [*sessions, {"started": time.time(), "seconds": None}])


def end(work: Path) -> None:
    """Record that the running session has ended; does nothing if the work was committed."""
    sessions = _read(work)
    if not sessions or sessions[-1]["seconds"] is not None:
        return
    sessions[-1]["seconds"] = max(0.0, time.time() - sessions[-1]["started"])
    with contextlib.suppress(OSError):  # a full disk must not hide the error that ended the session
        _write(work, sessions)


def ended(work: Path) -> list[float]:
    """Seconds of each session that is over."""
    return [s["seconds"] for s in _read(work) if s["seconds"] is not None]


def begun(work: Path) -> bool:
    """Whether an earlier session left files to go on from."""
    return work.is_dir() and any(p.name not in (SESSIONS, PROGRESS) for p in work.iterdir())


def _newest(work: Path) -> float:
    return max((p.stat().st_mtime for p in work.rglob("*") if p.is_file()), default=0.0)


def _read(work: Path) -> list[dict]:
    try:
        sessions = read_json(work / SESSIONS)
        return [{k: s[k] and float(s[k]) for k in ("started", "seconds")} for s in sessions]
    except (OSError, ValueError, KeyError, TypeError):  # none yet; times are not worth a failure
        return []


def _write(work: Path, sessions: list[dict]) -> None:
    write_atomically(work / SESSIONS, json.dumps(sessions) + "\n")
