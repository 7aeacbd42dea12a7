"""Convert a Minari dataset to our files. An episode of T steps has T+1 observations there.

Observation forms: MiniGrid's image (7, 7, 3) of indices, alone or as ``image`` of a dictionary whose
``direction`` and ``mission`` are kept, but no model reads them.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from dtx.dataset.episodes import Episodes, EpisodeWriter, Outcome
from dtx.dataset.minari.bounds import refuse_inflated
from dtx.dataset.minari.files import (
    ENDS,
    MOMENTS,
    OWN,
    minari,
    unpacked,
    write_columns,
    write_facts,
)
from dtx.dataset.minari.ids import choice_of
from dtx.dataset.minari.place import fetch, folder_of_datasets, place_of, refuse_outside
from dtx.dataset.minari.spec import MinariSpec
from dtx.dataset.reading import MOST_ACTIONS
from dtx.env.encoding import VIEW, channels
from dtx.errors import UserError
from dtx.progress import progress
from dtx.text import first_line

if TYPE_CHECKING:
    from minari import MinariDataset
    from minari.dataset.minari_storage import MinariStorage

UNKNOWN_TEMPERATURE = 1.0
"""Of episodes that others recorded: Minari does not say at which temperature they were sampled."""
BESIDE = ("direction", "mission")
"""Entries of MiniGrid's dictionary other than the image."""


def write(spec: MinariSpec, out: Path, label: str) -> dict[str, int]:
    """Convert; gives the headline numbers.

    Args:
        spec: Which dataset.
        out: Folder of the artefact.
        label: Of the stage, for the metadata of the episodes.

    Raises:
        UserError: The dataset is not there, or something in it cannot be mapped.
    """
    dataset = opened(spec.id, spec.root, spec.download)
    n_actions, beside = understood(dataset, spec.id)
    if n_actions != spec.env.n_actions:
        raise UserError(
            f"dataset.id: {spec.id} has {n_actions} actions, but env={spec.env.id} has "
            f"{spec.env.n_actions}; choose the environment that it was recorded in{_advice(dataset)}"
        )
    own = dataset.storage.metadata.get(OWN)
    with closing(EpisodeWriter(out)) as writer:
        reader = _Reader(spec.id, writer, beside, n_actions)
        if own:  # keep the order of our table of observations, so that every column is equal
            for row in _table(own, spec.id):
                writer.identify(row[None])
        digest = _take_all(reader, dataset.storage, dataset.episode_indices)
        if spec.digest not in (None, digest):
            raise UserError(
                f"dataset.digest: the episodes of {spec.id} have {digest}, not {spec.digest}: it is not "
                "the expected dataset"
            )
        env = dataset.env_spec.id if dataset.env_spec is not None else None
        whole = len(reader.split) == len(reader.ends["seed"])
        split = np.array(reader.split, np.uint8) if whole else None
        origin = {"env": str(env), "minari": spec.id, "dataset": label}
        writer.finish(spec.validation, spec.seed, origin, split)
    _keep(reader, dataset, out, env, digest)
    return _headline(reader, out)


def _table(own: Any, name: str) -> np.ndarray:
    try:
        return unpacked(own["observations"])
    except (ValueError, KeyError, TypeError, zlib.error) as error:
        raise UserError(
            f"{name}: {OWN}.observations of its metadata: {first_line(error)}"
        ) from None


def _take_all(reader: _Reader, storage: MinariStorage, places: np.ndarray) -> str:
    """Read every episode; gives the digest of all."""
    refuse_inflated(storage.data_path, reader.name)
    with progress("minari", len(places), "episodes") as bar:
        for episode, about in _episodes(storage, places):
            reader.take(episode, about)
            bar.advance(1)
    if not len(places):
        raise UserError(f"{reader.name}: holds no episode")
    return reader.digest.hexdigest()


def _episodes(
    storage: MinariStorage, places: np.ndarray
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each episode and its metadata."""
    try:
        known = storage.get_episode_metadata(places)
        yield from zip(storage.get_episodes(places), known, strict=True)
    except Exception as error:  # Minari and h5py raise anything on a damaged file
        raise UserError(
            f"{storage.data_path}: Minari cannot read it: {type(error).__name__}: {first_line(error)}"
        ) from error


def opened(name: str, root: Path | None, download: bool) -> MinariDataset:
    """A Minari dataset of this machine.

    Raises:
        UserError: It is missing or damaged.
    """
    package = minari()
    with folder_of_datasets(root), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of versions of packages that made the dataset
        try:
            if download:
                fetch(name)
            refuse_outside(place_of(name))
            return package.load_dataset(name)
        except UserError:
            raise
        except FileNotFoundError:
            place = root or os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets"
            raise UserError(
                f"dataset.id: no {name} in {place}; dataset.download=true fetches it, dataset.root=FOLDER "
                "looks elsewhere"
            ) from None
        except Exception as error:  # a damaged file or a server can raise anything
            raise UserError(
                f"{name}: Minari cannot open it: {type(error).__name__}: {error}"
            ) from error


def understood(dataset: MinariDataset, name: str) -> tuple[int, tuple[str, ...]]:
    """The number of actions, and what an observation holds other than the image.

    Raises:
        UserError: dtx cannot read such actions or observations.
    """
    from gymnasium import spaces

    actions, seen = dataset.action_space, dataset.observation_space
    if not isinstance(actions, spaces.Discrete) or actions.start != 0 or actions.n > MOST_ACTIONS:
        raise UserError(
            f"{name}: its actions are {actions}; Discrete from 0, at most {MOST_ACTIONS}, can be read"
        )
    beside: tuple[str, ...] = ()
    image = seen
    if isinstance(seen, spaces.Dict):
        image = seen.get("image")
        beside = tuple(key for key in seen.spaces if key != "image")
        if more := [key for key in beside if key not in BESIDE]:
            raise UserError(f"{name}: its observations hold {more[0]!r}, which dtx cannot keep")
    if not isinstance(image, spaces.Box) or image.shape != (VIEW, VIEW, 3):
        shape = (None if image is None else image.shape) or type(image).__name__
        raise UserError(
            f"{name}: its observations are {shape}, not MiniGrid's view of {VIEW} x {VIEW} cells with 3 "
            "indices; pixels and other views cannot be read"
        )
    return int(actions.n), beside


class _Reader:
    """Collects the episodes one after the other."""

    def __init__(self, name: str, writer: EpisodeWriter, beside: tuple[str, ...], n_actions: int):
        self.name, self.writer, self.n_actions = name, writer, n_actions
        self.digest = hashlib.sha256()
        self.ends: dict[str, list] = {"final": [], "terminated": [], "truncated": [], "seed": []}
        self.moments: dict[str, list] = {key: [] for key in (*beside, "reward")}
        self.split: list[int] = []
        self.exact_rewards, self.infos = True, 0

    def take(self, episode: dict[str, Any], known: dict[str, Any]) -> None:
        """Append an episode; ``known`` is its metadata."""
        place = f"{self.name}, episode {episode['id']}"
        seen = episode["observations"]
        images = self._images(seen["image"] if isinstance(seen, dict) else seen, place)
        actions, rewards = np.asarray(episode["actions"]), np.asarray(episode["rewards"])
        ends = {k: np.asarray(episode[f"{k[:-2]}ions"], bool) for k in ("terminated", "truncated")}
        if actions.dtype.kind not in "iu" or rewards.dtype.kind not in "biuf":
            raise UserError(f"{place}: actions are {actions.dtype} and rewards {rewards.dtype}")
        if actions.ndim != 1:
            raise UserError(f"{place}: actions are {actions.shape}, not one a step")
        length = len(actions)
        if length == 0 or len(images) != length + 1 or rewards.shape != (length,):
            raise UserError(
                f"{place}: {len(images)} observations, {length} actions, {rewards.shape} rewards"
            )
        if ((actions < 0) | (actions >= self.n_actions)).any() or not np.isfinite(rewards).all():
            raise UserError(
                f"{place}: holds an action outside the space or a reward that is not finite"
            )
        if any(flags[:-1].any() for flags in ends.values()):
            raise UserError(f"{place}: has steps after its end")
        ids = self.writer.identify(images)
        small = rewards.astype(np.float32)
        self.exact_rewards &= bool((small == rewards).all())
        steps = {"observation": ids[None, :-1], "action": actions[None], "reward": small[None]}
        done = bool(ends["terminated"][-1])
        failed = Outcome.WRONG if done else Outcome.TRUNCATED
        outcome = Outcome.SUCCESS if done and small[-1] > 0 else failed
        ours = {
            k: known[f"{OWN}_{k}"]
            for k in ("temperature", "outcome", "split")
            if f"{OWN}_{k}" in known
        }
        self.writer.append(
            steps,
            np.array([length]),
            np.array([ours.get("outcome", outcome)]),
            float(ours.get("temperature", UNKNOWN_TEMPERATURE)),
        )
        self.split += [int(ours["split"])] if "split" in ours else []
        self.ends["final"].append(ids[-1])
        self.ends["seed"].append(known.get("seed"))
        for key, flags in ends.items():
            self.ends[key].append(bool(flags[-1]))
        self.moments["reward"].append(np.append(rewards, rewards.dtype.type(0)))
        for key in self.moments.keys() - {"reward"}:
            self.moments[key].append(seen[key])
        self.infos += bool(episode.get("infos"))
        for column in (images, actions.astype(np.int64), rewards, *ends.values()):
            self.digest.update(np.ascontiguousarray(column).tobytes())
        for key in sorted(self.moments.keys() - {"reward"}):
            self.digest.update(json.dumps(np.asarray(seen[key]).tolist()).encode())

    def _images(self, images: ArrayLike, place: str) -> np.ndarray:
        images = np.asarray(images)
        try:
            small = images.astype(np.uint8)
            if images.shape[1:] != (VIEW, VIEW, 3) or (small != images).any():
                raise ValueError("an observation is not 7 x 7 x 3 indices")
            channels(small)
        except ValueError as error:
            raise UserError(f"{place}: {error}") from None
        return small


def _keep(reader: _Reader, dataset: MinariDataset, out: Path, env: str | None, digest: str) -> None:
    from minari.serialization import serialize_space

    write_columns(
        out / ENDS,
        {
            "final": np.array(reader.ends["final"], np.int32),
            "terminated": np.array(reader.ends["terminated"]),
            "truncated": np.array(reader.ends["truncated"]),
            "seed": np.array([-1 if s is None else s for s in reader.ends["seed"]], np.int64),
        },
    )
    moments: dict[str, Any] = {
        key: list(chain.from_iterable(parts)) if key == "mission" else np.concatenate(parts)
        for key, parts in reader.moments.items()
        if key != "reward" or not reader.exact_rewards
    }
    if moments:
        write_columns(out / MOMENTS, moments)
    storage = dataset.storage
    kept = (
        "dataset_id",
        "algorithm_name",
        "author",
        "author_email",
        "code_permalink",
        "description",
    )
    metadata = storage.metadata
    write_facts(
        out,
        {
            "env": env,
            "digest": digest,
            "episodes_with_infos": reader.infos,
            "reward_type": str(np.result_type(*{r.dtype for r in reader.moments["reward"]})),
            "action_space": serialize_space(storage.action_space),
            "observation_space": serialize_space(storage.observation_space),
            "env_spec": dataset.env_spec.to_json() if dataset.env_spec is not None else None,
            "metadata": {
                k: sorted(metadata[k]) if isinstance(metadata[k], set) else metadata[k]
                for k in kept
                if k in metadata
            },
            "lineage": {k: v for k, v in (metadata.get(OWN) or {}).items() if k != "observations"},
        },
    )


def _headline(reader: _Reader, out: Path) -> dict[str, int]:
    episodes = Episodes.read(out)
    counts = np.bincount(episodes.outcome, minlength=3)
    return {
        "data/n_episodes": len(episodes.start),
        "data/n_steps": len(episodes.action),
        "data/n_unique_obs": len(episodes.observations),
        "data/n_episodes_with_infos_left_out": reader.infos,
        **{f"data/n_{o.name.lower()}": int(counts[o]) for o in Outcome},
    }


def _advice(dataset: MinariDataset) -> str:
    return f" ({choice_of(dataset.env_spec.id)})" if dataset.env_spec is not None else ""
