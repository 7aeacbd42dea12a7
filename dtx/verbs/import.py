"""Read a published checkpoint, or trajectories, into the store."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from pathlib import Path

from dtx.errors import UserError
from dtx.verbs import near

EXAMPLES = """
  dtx import MemoryGatedMLP.pt                     a Decision Transformer, a behaviour clone, or an agent
  dtx import MemoryGatedMLP.pt --as gated          writes conf/dt/gated.yaml, prints the command that uses it
  dtx import model.safetensors store.path=/data/store
  dtx import trajectories.gz --unsafe-pickle       demonstrations; a pickle, so only if you trust it
"""

_KINDS = {
    "dt": ("A published Decision Transformer", "dtx.dt.imported.Imported"),
    "agent": ("A published agent", "dtx.agent.imported.Imported"),
    "dataset": ("Published trajectories", "dtx.dataset.imported.Imported"),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to read, and what to call it."""
    parser.add_argument(
        "file", metavar="FILE", type=Path, help="a .pt or .safetensors checkpoint, or trajectories"
    )
    parser.add_argument(
        "--as", dest="name", metavar="NAME", help="name of the config; default: the file's"
    )
    parser.add_argument("--config-dir", type=Path, help="your own configs (default: ./conf)")
    parser.add_argument("--force", action="store_true", help="write over a config that is there")
    parser.add_argument(
        "--unsafe-pickle",
        action="store_true",
        help="read trajectories, which only come as a pickle",
    )
    parser.add_argument("overrides", nargs="*", help="Hydra overrides: store.path=FOLDER")


def main(args: argparse.Namespace) -> int:
    """Put the artefact into the store, write a config that uses it, and print the command."""
    from dtx.published.checkpoint import digest_of

    digest = digest_of(args.file)
    group, env = recognised(args.file, args.unsafe_pickle)
    path = place_of(args, group)
    before = path.read_text() if path.exists() else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(config_of(group, args.file.resolve(), digest, env))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    done = False
    try:
        done = _run(group, path, env, args.overrides) == 0
    finally:
        if not done:  # what is not in the store needs no config
            path.unlink() if before is None else path.write_text(before)
    if not done:
        return 2
    print(f"wrote {near(path)}")
    use = {
        "dt": [
            "analysis=[activation_patching]",
            "pairs.dataset=null",
        ],  # its demonstrations are not here
        "agent": ["target=dataset"],
        "dataset": ["target=dt"],
    }[group]
    folder = path.parent.parent
    own = [] if folder.resolve() == Path("conf").resolve() else ["--config-dir", str(folder)]
    command = [
        "dtx",
        "run",
        *own,
        f"{group}={path.stem}",
        *environment(env, group),
        *use,
        *args.overrides,
    ]
    print(f"use it: {shlex.join(command)}")
    return 0


def recognised(file: Path, unsafe_pickle: bool) -> tuple[str, str]:
    """Group of the config, and the id of the environment that the file names.

    Raises:
        UserError: It is nothing that can be imported, with the reason.
    """
    from dtx.published.trajectories import is_pickle

    if is_pickle(file):
        if not unsafe_pickle:
            raise UserError(
                f"{file}: is a pickle, and a pickle can run any program when it is read; if you trust where "
                "it comes from, give --unsafe-pickle: a process of its own then reads it and makes arrays"
            )
        from dtx.cli import say
        from dtx.published.trajectories import environment_of

        say(f"warning: {file} is a pickle; reading it because of --unsafe-pickle")
        return "dataset", environment_of(file)
    from dtx.agent import published as agent
    from dtx.dt import published as transformer
    from dtx.published.checkpoint import read

    checkpoint = read(file)
    if transformer.is_transformer(checkpoint):
        return "dt", transformer.convert(checkpoint).seen.env
    if agent.is_agent(checkpoint):
        return "agent", agent.convert(checkpoint)[1].env
    names = ", ".join(list(checkpoint.tensors)[:3]) or "none"
    raise UserError(
        f"{file}: neither a trajectory transformer (action_embedding, transformer.blocks) nor an agent "
        f"(actor, critic); its tensors: {names} ..."
    )


def place_of(args: argparse.Namespace, group: str) -> Path:
    """Where the config goes.

    Raises:
        UserError: The name cannot be one, or is taken.
    """
    from dtx.config import CONF

    name = args.name or re.sub(r"\W+", "_", args.file.name.split(".")[0]).strip("_")
    if not re.fullmatch(r"[A-Za-z]\w*", name):
        raise UserError(f"--as {name}: a name has letters, digits and _, and begins with a letter")
    if (CONF / group / f"{name}.yaml").exists():
        raise UserError(
            f"dtx's own {group}/{name} would be found before yours: give yours another name (--as my_{name})"
        )
    folder = args.config_dir or Path("conf")
    if folder.resolve() == CONF.resolve():
        raise UserError(
            f"{near(folder)} holds dtx's own configs: give a folder of yours (--config-dir mine)"
        )
    path = folder / group / f"{name}.yaml"
    if path.exists() and not args.force:
        raise UserError(f"{path} is there already: --as another name, or --force to write over it")
    return path


def config_of(group: str, file: Path, digest: str, env: str) -> str:
    """The YAML that uses what was imported."""
    what, target = _KINDS[group]
    name = "".join(c for c in env if c.isprintable())[:60]
    where = f"its environment was {name}" if name else "it names no environment"
    path = json.dumps(str(file), ensure_ascii=False)
    lines = [
        f"# {what}, imported by `dtx import`; {where}.",
        f"_target_: {target}",
        f"file: {path}  # only needed where the artefact is not in the store",
        f"digest: {digest!r}  # SHA-256 of the file's bytes",
    ]
    if group == "dataset":
        lines += [
            "env: ${env}  # where the episodes were played",
            "unsafe_pickle: true  # read a pickle, should the artefact have to be made again",
            "validation: 0.05  # share of the episodes held out of DT training",
            "seed: ${seed}  # of the choice of held-out episodes",
        ]
    return "\n".join(lines) + "\n"


def environment(env: str, group: str) -> list[str]:
    """Overrides that choose the environment that a file names; none for the default or an unknown one."""
    if found := re.fullmatch(r"MiniGrid-MemoryS(\d+)FixedStart-v\d+", env):
        return [] if found[1] == "7" else [f"env.size={found[1]}"]
    if found := re.fullmatch(r"MiniGrid-Dynamic-Obstacles(-Random)?-(\d+)x\2-v\d+", env):
        start = ["env.random_start=true"] if found[1] else []
        size = int(found[2])
        more = {
            "dt": ["pairs=dynamic_obstacles"],
            "dataset": [f"dt.model.n_timesteps={4 * size**2}", "dt.model.n_actions=3"],
        }
        return ["env=dynamic_obstacles", f"env.size={size}", *start, *more.get(group, [])]
    if re.fullmatch(r"(MiniGrid|BabyAI)-[\w-]+", env):
        return ["env=minigrid", f"env.id={env}"]
    return []


def _run(group: str, path: Path, env: str, overrides: list[str]) -> int:
    from dtx.config import compose, experiment
    from dtx.verbs.run import run_and_tell

    of_env = [o for o in environment(env, group) if o.startswith("env")]
    chosen = [f"{group}={path.stem}", f"target={group}", *of_env, *overrides]
    return run_and_tell(experiment(compose(chosen, path.parent.parent), chosen))
