"""Completion as a user meets it: real shells at a real terminal, in which keys are pressed."""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dtx.cli import main

ROOT = Path(__file__).parent.parent.parent
READY = "shell-is-ready"


@pytest.fixture
def environment(tmp_path):
    """A ``dtx`` on the PATH that runs this source, and a home without the developer's settings."""
    program = tmp_path / "bin" / "dtx"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m dtx "$@"\n')
    program.chmod(0o755)
    (tmp_path / "mine" / "agent").mkdir(parents=True)
    (tmp_path / "mine" / "agent" / "own.yaml").write_text("lr: 1\n")
    (tmp_path / "store" / "ppo-aa11").mkdir(parents=True)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    plain = {"HOME": str(tmp_path), "PATH": path, "PYTHONPATH": str(ROOT), "TERM": "dumb"}
    return {**plain, "LANG": "C.UTF-8", "ZDOTDIR": str(tmp_path)}


class Terminal:
    """An interactive shell in a terminal of its own."""

    def __init__(self, command: list[str], environment: dict[str, str]):
        master, slave = pty.openpty()
        self.shell = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            cwd=environment["HOME"],
            start_new_session=True,
        )
        os.close(slave)
        self.master, self.screen = master, ""

    def until(self, pattern: str) -> str:
        """Read until the screen since the last call has the pattern; give what it found."""
        end = time.monotonic() + 60
        while not (found := re.search(pattern, self.screen)):
            assert time.monotonic() < end and self.shell.poll() is None, self.screen
            if select.select([self.master], [], [], 1.0)[0]:
                self.screen += os.read(self.master, 65536).decode(errors="replace")
        self.screen = ""
        return found[0]

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def close(self) -> None:
        os.killpg(self.shell.pid, signal.SIGKILL)
        self.shell.wait()
        os.close(self.master)


SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(dtx completion bash)"'),
    "zsh": (
        ["zsh", "-f", "-i"],
        'unsetopt ZLE_RPROMPT; autoload -U compinit; compinit -u -D; eval "$(dtx completion zsh)"',
    ),
}


@pytest.fixture(params=SHELLS)
def terminal(request, environment):
    if shutil.which(request.param) is None:
        pytest.skip(f"no {request.param} on this machine")
    command, load = SHELLS[request.param]
    found = Terminal(command, environment)
    found.type(f"{load}; echo {READY[:5]}''{READY[5:]}\n")
    found.until(READY)
    yield found
    found.close()


def test_a_tab_key_completes(terminal):
    """Ctrl-A goes to the beginning: what came of the line is echoed instead of run."""
    for typed, completed in (
        ("dtx repr\t", "dtx reproduce"),
        ("dtx run dt=sm\tseed=1", "dtx run dt=small seed=1"),
        ("dtx run agent.entropy_\t0", "dtx run agent.entropy_end=0"),
        ("dtx run -m dt=small,memory_dt_s\t", "dtx run -m dt=small,memory_dt_study"),
        ("dtx run --config-dir mine agent=o\t", "dtx run --config-dir mine agent=own"),
        ("dtx run analysis=\\[cal\t,demo\t", "dtx run analysis=[calibration,demonstrations"),
        ("dtx invalidate pp\t", "dtx invalidate ppo-aa11"),
    ):
        terminal.type(f"{typed}\x01echo \n")
        terminal.until(rf"[\r\n]{re.escape(completed)}\s")


BASH = r"""
eval "$(dtx completion bash)"
line="$1" COMP_LINE="$1" COMP_POINT=${#1}
read -ra COMP_WORDS <<< "$1"; COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_dtx dtx
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (
            "dtx run dt=me",
            ["memory_dt ", "memory_dt_26 ", "memory_dt_study "],
        ),  # what follows the =
        ("dtx run agent.l", ["agent.lr=", "agent.lr_end="]),
        ("dtx run agent.lr=", ["0.001 "]),
        ("dtx nosuchverb x", [""]),
    ],
)
def test_what_bash_is_given(environment, line, wanted):
    done = subprocess.run(
        ["bash", "-c", BASH, "bash", line], env=environment, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == wanted, done.stderr


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("dtx repr", ["reproduce"]),
        ("dtx run dt=me", ["dt=memory_dt", "dt=memory_dt_26", "dt=memory_dt_study"]),
        ("dtx run agent.l", ["agent.lr=", "agent.lr_end="]),
        ("dtx run --config-dir mine agent=o", ["agent=own"]),
    ],
)
def test_what_fish_offers(environment, line, wanted):
    if shutil.which("fish") is None:
        pytest.skip("no fish on this machine")
    script = f"dtx completion fish | source; complete -C '{line}'"
    done = subprocess.run(
        ["fish", "-c", script],
        env=environment,
        cwd=environment["HOME"],
        capture_output=True,
        text=True,
    )
    assert sorted(done.stdout.split()) == wanted, done.stderr


def test_without_a_shell_it_asks_which(capsys):
    assert main(["completion"]) == 2
    assert "bash|zsh|fish" in capsys.readouterr().err
