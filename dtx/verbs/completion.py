"""Print the shell's completion script."""

from __future__ import annotations

import argparse

SHELLS = ("bash", "zsh", "fish")
EXAMPLES = """
  eval "$(dtx completion bash)"          in ~/.bashrc; zsh the same in ~/.zshrc
  dtx completion fish | source           in ~/.config/fish/config.fish
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which shell; or what to complete, asked by the script."""
    parser.add_argument("shell", choices=SHELLS)
    parser.add_argument("--query", help=argparse.SUPPRESS)


def main(args: argparse.Namespace) -> int:
    """Print the script."""
    raise NotImplementedError
