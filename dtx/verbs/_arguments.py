"""Arguments that several verbs share."""

from __future__ import annotations

import argparse
from pathlib import Path

from dtx.config.options import own_configs
from dtx.errors import UserError

OVERRIDES = "Hydra overrides: group=name, field=value"


def override_arguments(
    parser: argparse.ArgumentParser, *, sweeps: bool = True, words: str = OVERRIDES
) -> None:
    """The arguments of every verb that composes an experiment or a sweep.

    Args:
        parser: Of the verb.
        sweeps: Whether the verb takes ``-m``.
        words: Help text of the positional words.
    """
    config_dir_argument(parser, "your own configs, searched beside dtx's")
    if sweeps:
        parser.add_argument(
            "-m", "--multirun", action="store_true", help="a sweep: name=value,value"
        )
    for flags, instead in _OF_HYDRA.items():
        parser.add_argument(
            *flags, action=_Refused, nargs="?", help=argparse.SUPPRESS, const=instead
        )
    parser.add_argument("overrides", nargs="*", help=words)


_OF_HYDRA = {
    ("--config-name", "-cn"): "a whole experiment of your own is a preset: experiment=NAME, in "
    "conf/experiment/NAME.yaml",
    ("--config-path", "-cp"): "your own configs are searched beside dtx's: --config-dir FOLDER",
    ("--experimental-rerun",): "nothing is pickled: give the same command again, with the lines of "
    ".hydra/overrides.yaml",
    ("--shell-completion", "-sc"): "dtx completion bash (zsh, fish) prints the script",
}
"""Flags of Hydra's that dtx does not have, and what to do instead."""


class _Refused(argparse.Action):
    def __call__(
        self, parser: object, namespace: object, values: object, flag: object = None
    ) -> None:
        raise UserError(f"{flag}: {self.const}")


def config_dir_argument(
    parser: argparse.ArgumentParser, use: str, *, written: bool = False
) -> None:
    """``--config-dir``: the user's own configs.

    Args:
        parser: Of the verb.
        use: What the verb does with them, for the help text.
        written: Whether the verb writes there, so that the folder need not be there yet.
    """
    kind = as_path if written else existing_folder
    parser.add_argument(
        "--config-dir",
        "-cd",
        type=kind,
        default=own_configs(),
        help=f"{use} (default: ./conf if it exists)",
    )


def as_path(text: str) -> Path:
    """A path that is given on the command line; ``--store=~/s`` is not expanded by the shell."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f"{text}: {error}") from None


def existing_folder(text: str) -> Path:
    """A folder that is given on the command line, and is there."""
    if not as_path(text).is_dir():
        raise UserError(f"no folder {text} (--config-dir)")
    return as_path(text)


def store_argument(parser: argparse.ArgumentParser) -> None:
    """``--store``: the folder of artefacts, for verbs that compose no experiment."""
    parser.add_argument(
        "--store", type=as_path, default=Path("store"), help="folder of artefacts (default: store)"
    )


def tracking_argument(parser: argparse.ArgumentParser) -> None:
    """``--uri``: where runs are shown, for verbs that compose no experiment."""
    parser.add_argument(
        "--uri",
        help="MLflow's tracking URI (default: MLFLOW_TRACKING_URI, else mlflow.db beside the store)",
    )
