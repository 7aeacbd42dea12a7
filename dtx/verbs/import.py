"""Import a model that others trained, or published trajectories, into the store."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from dtx.errors import UserError
from dtx.text import near
from dtx.verbs._arguments import as_path, config_dir_argument

if TYPE_CHECKING:
    from dtx.exchange.imports import Recognised

EXAMPLES = """
  dtx import MemoryGatedMLP.pt                     a Decision Transformer, a behaviour clone, or an agent
  dtx import MemoryGatedMLP.pt --as gated          writes conf/dt/gated.yaml, prints the command that uses it
  dtx import model.safetensors store.path=/data/store
  dtx import handed_over --as theirs               a folder that `dtx export` wrote
  dtx import hf://me/memory-dt --as theirs         the same from a hub
  dtx import teacher.zip env=minigrid env.id=MiniGrid-Empty-5x5-v0    PPO or RecurrentPPO of Stable-Baselines3
  dtx import trajectories.gz --unsafe-pickle       demonstrations; a pickle, so only if you trust it
"""
OWN_CLASSES = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to import, and the name of its config."""
    parser.add_argument(
        "file",
        metavar="FILE",
        type=_source,
        help="a .pt or .safetensors checkpoint, a Stable-Baselines3 zip, an exported folder, one on a hub "
        "(hf://OWNER/MODEL), or trajectories",
    )
    parser.add_argument(
        "--as", dest="name", metavar="NAME", help="name of the config; default: the file's"
    )
    config_dir_argument(parser, "your own configs, where the new one is written", written=True)
    parser.add_argument("--force", action="store_true", help="overwrite an existing config")
    parser.add_argument(
        "--unsafe-pickle",
        action="store_true",
        help="read trajectories, which only come as a pickle; or a policy with classes of its own",
    )
    parser.add_argument("overrides", nargs="*", help="Hydra overrides: store.path=FOLDER")


def _source(text: str) -> Path | str:
    """A path, or an address on a hub, which a path would lose a slash of."""
    return text if text.startswith("hf://") else as_path(text)


def main(args: argparse.Namespace) -> int:
    """Put the artefact into the store, write a config that uses it, and print the command.

    The config is written first, as it is what is run: after a kill, the same command finds it as its own.
    """
    from dtx.exchange.imports import recognised
    from dtx.exchange.published.source import digest_of

    if isinstance(args.file, str):
        from dtx.exchange.hub import pull

        args.file = pull(args.file, Path("imported"))
        print(f"fetched into {near(args.file)}")
    what = recognised(args.file, args.unsafe_pickle, args.config_dir)
    digest = digest_of(args.file)
    path = place_of(args, what.group)
    before = path.read_bytes() if path.is_file() else None
    _write(path, what.config(args.file.resolve(), digest).encode(), args.force)
    done = False
    try:
        done = _run(what, path, args.overrides) == 0
    finally:
        if not done and before is None:  # no artefact, so the config would be of no use
            path.unlink()
        elif not done and before is not None:
            _write(path, before, True)
    if not done:
        return 2
    print(f"wrote {near(path)}")
    use = {
        "dt": [
            "analysis=[activation_patching]",
            "pairs.dataset=null",
        ],  # its demonstrations are unknown
        "agent": ["target=dataset"],
        "dataset": ["target=dt"],
    }[what.group]
    folder = path.parent.parent
    own = [] if folder.resolve() == Path("conf").resolve() else ["--config-dir", str(folder)]
    chosen = [f"{what.group}={path.stem}", *what.choice, *what.more]
    command = ["dtx", "run", *own, *chosen, *use, *args.overrides]
    print(f"use it: {shlex.join(command)}")
    return 0


def place_of(args: argparse.Namespace, group: str) -> Path:
    """Where the config goes.

    Raises:
        UserError: The name cannot be one, or is one of dtx's own.
    """
    from dtx.config.compose import CONF

    name = args.name or re.sub(r"\W+", "_", args.file.resolve().name.split(".")[0]).strip("_")
    if not re.fullmatch(r"[A-Za-z]\w*", name):
        raise UserError(f"--as {name}: a name has letters, digits and _, and begins with a letter")
    if (CONF / group / f"{name}.yaml").exists():
        raise UserError(
            f"dtx's own {group}/{name} takes precedence over yours: choose another name (--as my_{name})"
        )
    folder = args.config_dir or Path("conf")
    if folder.resolve() == CONF.resolve():
        raise UserError(
            f"{near(folder)} holds dtx's own configs: give a folder of yours (--config-dir mine)"
        )
    return folder / group / f"{name}.yaml"


def _write(path: Path, text: bytes, replace: bool) -> None:
    from dtx.beside import building, put

    root, advice = path.parent.parent, "choose another name with --as, or --force to write over it"
    try:
        with building(path, root) as scratch:
            (scratch / "new").write_bytes(text)  # no *.yaml, which would be found as a config
            put(scratch / "new", path, advice, replace=replace, root=root)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


def _run(what: Recognised, path: Path, overrides: list[str]) -> int:
    from dtx.config.compose import compose, experiment
    from dtx.verbs.run import run_and_print

    chosen = [f"{what.group}={path.stem}", f"target={what.group}", *what.choice, *overrides]
    return run_and_print(experiment(compose(chosen, path.parent.parent), chosen))
