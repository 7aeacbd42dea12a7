"""For `dtx import`: detect the type of a file or folder by its content, and write its config.

Known are files of the published studies, zips of Stable-Baselines3, and folders that `dtx export` wrote.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from dtx.errors import UserError
from dtx.files import read_json

_TARGETS = {
    "dt": "dtx.dt.imported.Imported",
    "agent": "dtx.agent.imported.Imported",
    "dataset": "dtx.dataset.imported.Imported",
}


@dataclass(frozen=True)
class Recognised:
    """The type of a file or folder, and the config for it.

    Attributes:
        group: Of the config.
        what: Description for people.
        target: Class of the stage.
        env: Id of the environment that it names; "" if it names none.
        choice: Overrides that choose this environment.
        more: Further overrides that its models need.
        fields: Lines of the YAML after file and digest.
    """

    group: str
    what: str
    target: str
    env: str
    choice: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()

    def config(self, file: Path, digest: str) -> str:
        """The YAML of the imported stage."""
        name = "".join(c for c in self.env if c.isprintable())[:60]
        where = f"its environment was {name}" if name else "it names no environment"
        path = json.dumps(str(file), ensure_ascii=False)
        of = "the folder's model" if file.is_dir() else "the file's bytes"
        lines = [
            f"# {self.what}, imported by `dtx import`; {where}.",
            f"_target_: {self.target}",
            f"file: {path}  # only needed where the artefact is not in the store",
            f"digest: {digest!r}  # SHA-256 of {of}",
            *self.fields,
        ]
        return "\n".join(lines) + "\n"


def recognised(file: Path, unsafe_pickle: bool, config_dir: Path | None = None) -> Recognised:
    """Detect the type of a file or folder.

    Args:
        file: A file or folder.
        unsafe_pickle: The user trusts the content of pickles.
        config_dir: The user's own configs, where the environment is looked for as well.

    Raises:
        UserError: It cannot be imported, with the reason.
    """
    _refuse_minari(file)
    if file.is_dir():
        return _handed_over(file, config_dir)
    from dtx.agent.sb3.policy import is_sb3
    from dtx.exchange.published.trajectories import is_pickle

    if is_pickle(file):
        return _trajectories(file, unsafe_pickle)
    if is_sb3(file):
        return _sb3(file, unsafe_pickle)
    from dtx.exchange.published import convert_agent, convert_model
    from dtx.exchange.published.checkpoint import read

    checkpoint = read(file)
    if convert_model.is_transformer(checkpoint):
        return _of_study(
            "dt", "A published Decision Transformer", convert_model.convert(checkpoint).seen.env
        )
    if convert_agent.is_agent(checkpoint):
        return _of_study("agent", "A published agent", convert_agent.convert(checkpoint)[1].env)
    names = ", ".join(list(checkpoint.tensors)[:3]) or "none"
    raise UserError(
        f"{file}: neither a trajectory transformer (action_embedding, transformer.blocks) nor an agent "
        f"(actor, critic); its tensors: {names} ..."
    )


def _refuse_minari(file: Path) -> None:
    """Raise a UserError for a Minari dataset, which needs no import, with the command that uses it."""
    from dtx.dataset.minari.ids import wrong_id

    name, root = str(file).removeprefix("minari:"), ""
    if file.is_dir():
        if not (file / "data" / "main_data.hdf5").is_file():
            return
        try:
            name = read_json(file / "data" / "metadata.json")["dataset_id"]
        except (OSError, ValueError, KeyError, TypeError):
            name = file.resolve().name
        above = file.resolve().parents[len(name.split("/")) - 1]
        root = f" dataset.root={shlex.quote(str(above))}"
    elif file.exists() or wrong_id(name) is not None:
        return
    raise UserError(
        f"{file}: a Minari dataset needs no import: "
        f"dtx run dataset=minari dataset.id={shlex.quote(name)}{root} env=... target=dt"
    )


def _trajectories(file: Path, unsafe_pickle: bool) -> Recognised:
    if not unsafe_pickle:
        raise UserError(
            f"{file}: is a pickle, and a pickle can run any program when it is read; if you trust its "
            "source, give --unsafe-pickle: a separate process then reads it and makes arrays"
        )
    from dtx.exchange.published.trajectories import environment_of
    from dtx.text import say

    say(f"warning: {file} is a pickle; reading it because of --unsafe-pickle")
    return _of_study(
        "dataset",
        "Published trajectories",
        environment_of(file),
        "env: ${env}  # where the episodes were played",
        "unsafe_pickle: true  # read a pickle, should the artefact have to be made again",
        "validation: 0.05  # share of the episodes held out of DT training",
        "seed: ${seed}  # of the choice of held-out episodes",
    )


def _sb3(file: Path, unsafe_pickle: bool) -> Recognised:
    from dtx.agent.sb3.policy import observation_of

    unsafe = str(unsafe_pickle).lower()
    return Recognised(
        "agent",
        "An agent of Stable-Baselines3",
        "dtx.agent.sb3.SB3",
        "",
        fields=(
            "env: ${env}  # where it acts; its actions must be the policy's",
            f"observation: {observation_of(file).value}  # what the policy reads, by its observation space",
            f"unsafe_pickle: {unsafe}  # true: unpickle a policy with classes of its own; runs what is in it",
        ),
    )


def _handed_over(folder: Path, config_dir: Path | None) -> Recognised:
    from dtx.exchange.environments import overrides_of
    from dtx.exchange.handles import Loaded
    from dtx.exchange.loading import exported
    from dtx.exchange.lookup import kind_of
    from dtx.exchange.origin import LINEAGE

    kind = kind_of(folder)
    if not (folder / LINEAGE).is_file() or kind not in ("dt", "agent"):
        raise UserError(
            f"{folder}: is no folder that `dtx export` wrote: {LINEAGE}, weights.safetensors and model.json "
            "stand in one"
        )
    env = Loaded(exported(folder, config_dir)).env
    choice = [] if env is None else overrides_of(env, config_dir)
    what = {"dt": "A Decision Transformer", "agent": "An agent"}[kind]
    return Recognised(
        kind,
        f"{what} that `dtx export` handed over",
        _TARGETS[kind],
        "" if env is None else env.id,
        tuple(choice),
        tuple(_pairs(choice)) if kind == "dt" else (),
    )


def _pairs(choice: list[str]) -> list[str]:
    """Overrides for the pairs of an environment: their config has the name of the environment's."""
    from dtx.config.compose import CONF

    names = [o.removeprefix("env=") for o in choice if o.startswith("env=")]
    return [f"pairs={n}" for n in names if (CONF / "pairs" / f"{n}.yaml").is_file()]


def _of_study(group: str, what: str, env: str, *fields: str) -> Recognised:
    choice, more = environment(env, group)
    return Recognised(group, what, _TARGETS[group], env, tuple(choice), tuple(more), fields)


def environment(env: str, group: str) -> tuple[list[str], list[str]]:
    """Overrides that choose the environment that a study's file names, and those that go with it.

    None for the default environment, or an unknown one.
    """
    if match := re.fullmatch(r"MiniGrid-MemoryS(\d+)FixedStart-v\d+", env):
        return ([] if match[1] == "7" else [f"env.size={match[1]}"]), []
    if match := re.fullmatch(r"MiniGrid-Dynamic-Obstacles(-Random)?-(\d+)x\2-v\d+", env):
        start = ["env.random_start=true"] if match[1] else []
        size = int(match[2])
        more = {
            "dt": ["pairs=dynamic_obstacles"],
            "dataset": [f"dt.model.n_timesteps={4 * size**2}", "dt.model.n_actions=3"],
        }
        return ["env=dynamic_obstacles", f"env.size={size}", *start], more.get(group, [])
    if re.fullmatch(r"(MiniGrid|BabyAI)-[\w-]+", env):
        return ["env=minigrid", f"env.id={env}"], []
    return [], []
