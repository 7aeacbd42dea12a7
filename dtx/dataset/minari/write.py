"""Export demonstrations as a Minari dataset from which the same columns can be read back.

Minari stores the observation after an episode's last action, which our files do not hold: demonstrations
that came from Minari keep theirs; for others the last observation is repeated, and the metadata says so.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dtx.beside import building, free_disk
from dtx.dataset.episodes import Episodes, Outcome
from dtx.dataset.minari.files import (
    ENDS,
    FACTS,
    MOMENTS,
    OWN,
    minari,
    packed,
    read_columns,
    read_facts,
)
from dtx.dataset.minari.ids import wrong_id
from dtx.dataset.minari.place import folder_of_datasets, place_of, put_dataset
from dtx.env.encoding import VIEW
from dtx.errors import UserError
from dtx.files import read_json
from dtx.progress import progress
from dtx.text import bytes_in_words

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec
    from minari.data_collector import EpisodeBuffer

    from dtx.env.environment import Environment
    from dtx.exchange.handles import LoadedDataset
    from dtx.store.store import Store


_OF_EPISODE, _OF_STEP = 20_000, 300
"""Bytes in the HDF5 file, half more than measured: 80 episodes of 3,941 steps take 1.9 MB (2026-11-30)."""


def export(label: str, store: Store, name: str, root: Path | None, author: str) -> int:
    """For `dtx export`: write an artefact's episodes and say how to read them; gives the exit status."""
    import dtx
    from dtx.text import near

    loaded = dtx.load("dataset", label, store=store)
    folder, written = write(loaded, name, root, author)
    done = f"wrote {near(folder)}" if written else f"{near(folder)} is there already"
    print(f"{done}: {len(loaded.episodes.start):,} episodes of {loaded.label}")
    print(f"read it: minari.load_dataset({name!r})", end="")
    print(f" with MINARI_DATASETS_PATH={near(root)}" if root else "")
    more = f" dataset.root={near(root)}" if root else ""
    print(f"train on it: dtx run dataset=minari dataset.id={name}{more} target=dt")
    return 0


def write(loaded: LoadedDataset, name: str, root: Path | None, author: str) -> tuple[Path, bool]:
    """Write a Minari dataset.

    Args:
        loaded: The artefact: of rollouts, imported trajectories, or a Minari dataset.
        name: Minari id of the new dataset.
        root: Folder of Minari datasets; None for Minari's own.
        author: Who is named as its author.

    Returns:
        Folder of the dataset, and whether it was written: False if it was there already.

    Raises:
        UserError: The id is not valid or is taken by other episodes.
    """
    package = minari()
    if problem := wrong_id(name):
        raise UserError(f"--as {problem}")
    folder, episodes, record = loaded.folder, loaded.episodes, loaded.origin.record
    facts = read_facts(folder) if (folder / FACTS).is_file() else None
    spaces = _spaces(facts) if facts else _our_spaces(loaded)
    with folder_of_datasets(root):
        place, top = place_of(name), place_of("")
    advice = f"give another version (--as {_next(name)})"
    if place.exists() and _stage_of(place) != folder.name:  # known before an hour of writing
        raise UserError(f"{place} is there already, with other episodes: {advice}")
    with building(place, top) as scratch:
        _require_room(scratch, episodes)
        with folder_of_datasets(scratch), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Minari's advice on optional metadata
            dataset = package.create_dataset_from_buffers(
                name,
                _with_progress(_episodes(folder, episodes, facts), len(episodes.start)),
                **spaces,
                author=author,
                algorithm_name=str(record["config"].get("agent", folder.name)),
                code_permalink=f"dtx {record['packages'].get('dtx', '')}".strip(),
                description=_description(folder, episodes, facts),
                jpeg_encoding=False,
            )
            dataset.storage.update_episode_metadata(_columns(episodes))
            metadata = {OWN: _lineage(folder, record, episodes, facts)}
            if facts and facts["env_spec"] and spaces["env"] is None:
                metadata["env_spec"] = facts["env_spec"]  # named all the same
            dataset.storage.update_metadata(metadata)
        return place, put_dataset(scratch, name, top, advice)


def _require_room(place: Path, episodes: Episodes) -> None:
    """Refuse a disk that is too full: HDF5 would end the process when it cannot write."""
    needed = _OF_EPISODE * len(episodes.start) + _OF_STEP * len(episodes.action)
    if (free := free_disk(place)) < needed:
        raise UserError(
            f"{place.parent}: the data set takes about {bytes_in_words(needed)}, and "
            f"{bytes_in_words(free)} are free; make room there or choose another place"
        )


def _stage_of(place: Path) -> str | None:
    """Label of the stage whose episodes a dataset on disk holds, if dtx wrote it."""
    try:
        return read_json(place / "data" / "metadata.json")[OWN]["stage"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _episodes(
    folder: Path, episodes: Episodes, facts: dict[str, Any] | None
) -> Iterator[EpisodeBuffer]:
    from minari.data_collector import EpisodeBuffer

    ends = read_columns(folder / ENDS) if facts else None
    beside = read_columns(folder / MOMENTS) if (folder / MOMENTS).is_file() else {}
    rewards = beside.pop("reward", None)
    is_dict = facts is not None and json.loads(facts["observation_space"])["type"] == "Dict"
    for i, (start, length) in enumerate(zip(episodes.start, episodes.length, strict=True)):
        part = slice(start, start + length)
        moments = slice(start + i, start + i + length + 1)  # one more an episode before this one
        rows = episodes.observation[part]
        rows = np.append(rows, ends["final"][i] if ends else rows[-1])
        images = episodes.observations[rows]
        last = np.arange(length) == length - 1
        ended = episodes.outcome[i] != Outcome.TRUNCATED
        reward = episodes.reward[part] if rewards is None else rewards[moments][:-1]
        seed = int(ends["seed"][i]) if ends else -1
        # EpisodeBuffer's types say lists; arrays are taken too, and keep their number type.
        columns: dict[str, Any] = {
            "observations": {"image": images, **{k: v[moments] for k, v in beside.items()}}
            if is_dict
            else images,
            "actions": episodes.action[part].astype(np.int64),
            "rewards": reward.astype(facts["reward_type"] if facts else np.float32),
        }
        yield EpisodeBuffer(
            id=i,
            seed=None if seed < 0 else seed,
            **columns,
            terminations=last & (ends["terminated"][i] if ends else ended),
            truncations=last & (ends["truncated"][i] if ends else not ended),
            infos={},
        )


def _with_progress(buffers: Iterator[EpisodeBuffer], count: int) -> Iterator[EpisodeBuffer]:
    """The buffers one by one, with a progress bar; an episode takes 9 ms, and a list would hold all twice."""
    with progress("export", count, "episodes") as bar:
        for buffer in buffers:
            yield buffer
            bar.advance(1)


def _columns(episodes: Episodes) -> Iterator[dict[str, Any]]:
    """Metadata of each episode: the columns that Minari's format lacks."""
    for temperature, outcome, split in zip(
        episodes.temperature, episodes.outcome, episodes.split, strict=True
    ):
        yield {
            f"{OWN}_temperature": float(temperature),
            f"{OWN}_outcome": int(outcome),
            f"{OWN}_split": int(split),
        }


def _spaces(facts: dict[str, Any]) -> dict[str, Any]:
    """Spaces and environment specs as they were in the dataset that was read."""
    from gymnasium.envs.registration import EnvSpec
    from minari.serialization import deserialize_space

    # Not as `env`: Minari would make the environment, which needs not be installed here.
    spec = EnvSpec.from_json(facts["env_spec"]) if facts["env_spec"] else None
    return {
        "env": spec if spec is not None and _can_be_made(spec) else None,
        "eval_env": spec,
        "observation_space": deserialize_space(facts["observation_space"]),
        "action_space": deserialize_space(facts["action_space"]),
    }


def _our_spaces(loaded: LoadedDataset) -> dict[str, Any]:
    from gymnasium import spaces

    image = spaces.Box(0, 255, (VIEW, VIEW, 3), np.uint8)
    if loaded.env is None:
        n = int(loaded.episodes.action.max(initial=0)) + 1
        return {"env": None, "observation_space": image, "action_space": spaces.Discrete(n)}
    spec = spec_of(loaded.env)
    return {
        "env": spec,
        "eval_env": spec,
        "observation_space": image,
        "action_space": spaces.Discrete(loaded.env.n_actions),
    }


def spec_of(env: Environment) -> EnvSpec:
    """Gymnasium's spec of an environment with only the image as its observation.

    It names our class of the task where MiniGrid has none, so dtx must be installed to make it.
    """
    from gymnasium.envs.registration import WrapperSpec

    made = env.make()
    spec = copy.deepcopy(made.spec)
    made.close()
    assert spec is not None
    spec.kwargs = {
        k: v for k, v in spec.kwargs.items() if v is not None and k not in ("render_mode", "layout")
    }
    spec.additional_wrappers = (
        WrapperSpec("ImgObsWrapper", "minigrid.wrappers:ImgObsWrapper", {}),
    )
    spec.max_episode_steps = env.horizon  # MiniGrid counts itself, but others ask the spec
    return spec


def _can_be_made(spec: EnvSpec) -> bool:
    import gymnasium

    try:
        gymnasium.make(spec).close()
    except Exception:  # a package is missing, or the task is gone
        return False
    return True


def _lineage(
    folder: Path, record: Mapping[str, Any], episodes: Episodes, facts: dict[str, Any] | None
) -> dict[str, Any]:
    return {
        "stage": folder.name,
        "config": record["config"],
        "inputs": record["inputs"],
        "git": record["git"].get("sha"),
        "packages": record["packages"],
        "final_observation": "recorded" if facts else "not recorded: the last one stands twice",
        "imported_from": facts["metadata"] if facts else None,
        "observations": packed(episodes.observations),
    }


def _description(folder: Path, episodes: Episodes, facts: dict[str, Any] | None) -> str:
    counts = np.bincount(episodes.outcome, minlength=3)
    whence = f"Minari's {facts['metadata']['dataset_id']}, by way of dtx" if facts else "dtx"
    return (
        f"Episodes for training Decision Transformers, from {whence} ({folder.name}): {counts[0]} end in "
        f"success, {counts[1]} without reward, {counts[2]} run out of time. Observations are MiniGrid's "
        "indices, 7 x 7 x 3. Metadata of each episode: dtx_temperature (of the sampling policy), "
        "dtx_outcome (0 success, 1 wrong, 2 out of time), dtx_split (0 training, 1 held out)."
    )


def _next(name: str) -> str:
    stem, _, number = name.rpartition("-v")
    return f"{stem}-v{int(number) + 1}"
