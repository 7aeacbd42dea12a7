"""Recorded episodes as Arrow columns on disk, read through a memory map.

Three Arrow IPC files, one record batch each, so that every column is a zero-copy numpy view of the file::

    observations.arrow  observation fixed_size_list<u8>[7*7*3]   the distinct observations
    steps.arrow         observation i32 (row above), action u8, reward f32     one row a step
    episodes.arrow      start i64, length i32, return f32, outcome u8, temperature f32, split u8

Episodes of a model that was given a target have it, too: ``target f32`` in ``episodes.arrow``.

Where facts of the world were recorded there are two more, which :mod:`dtx.dataset.facts` reads::

    worlds.arrow        cells fixed_size_list<u8>[columns*rows*3]         the distinct grids
    poses.arrow         world i32 (row above), x u8, y u8, direction u8, carrying u8, carrying_colour u8

The steps of an episode are contiguous. A gridworld has few distinct observations (98 in Memory 7x7), so a
step takes 9 bytes and models embed each distinct observation once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
import pyarrow as pa

from dtx.dataset.reading import OBSERVATION_SHAPE, POSES, TYPES, read_columns
from dtx.env.facts import StateTable

_STEP_TYPES = TYPES["steps"]


class Outcome(IntEnum):
    """How an episode ended."""

    SUCCESS = 0
    WRONG = 1  # terminated without reward: at the wrong object
    TRUNCATED = 2  # out of time


OUTCOMES = tuple(outcome.name.lower() for outcome in Outcome)
"""Names of the outcomes in tables and figures, by their number."""


class Split(IntEnum):
    """What an episode is used for."""

    TRAIN = 0
    VALIDATION = 1


@dataclass(frozen=True)
class Episodes:
    """Recorded episodes: E episodes, N steps, U distinct observations.

    Attributes:
        observations: (U, 7, 7, 3) u8, MiniGrid's index encoding (column, row, [object, colour, state]).
        observation: (N,) i32, row of ``observations`` at each step.
        action: (N,) u8. reward: (N,) f32.
        start: (E,) i64, first step of each episode. length: (E,) i32, its number of steps.
        outcome: (E,) u8, an :class:`Outcome`. temperature: (E,) f32, of the sampling policy.
        split: (E,) u8, a :class:`Split`.
        target: (E,) f32, reward-to-go that the policy was given at the start; None: it was given none.
    """

    observations: np.ndarray
    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    start: np.ndarray
    length: np.ndarray
    outcome: np.ndarray
    temperature: np.ndarray
    split: np.ndarray
    target: np.ndarray | None = None

    @property
    def returns(self) -> np.ndarray:
        """(E,) f32: undiscounted sum of rewards of each episode."""
        if not len(self.start):
            return np.zeros(0, np.float32)
        return np.add.reduceat(self.reward, self.start).astype(np.float32)

    @property
    def reward_to_go(self) -> np.ndarray:
        """(N,) f32: at each step the sum of the rewards from there to the end of its episode."""
        return rewards_to_go(self.reward, self.start, self.length)

    @property
    def given(self) -> np.ndarray:
        """(N,) f32: the reward-to-go given to the policy at each step: the target less the rewards so far.

        Where it was given none: what the episode got from there on, :attr:`reward_to_go`.
        """
        if self.target is None:
            return self.reward_to_go
        given = np.repeat(self.target, self.length).astype(np.float32)
        longest_first = np.argsort(-self.length, kind="stable")
        start, length = self.start[longest_first], self.length[longest_first]
        for step in range(1, int(self.length.max(initial=1))):
            row = start[: np.searchsorted(-length, -step)] + step
            given[row] = given[row - 1] - self.reward[row - 1]
        return given

    @staticmethod
    def read(folder: Path) -> Episodes:
        """Map the three files of an artefact.

        Raises:
            UserError: A file cannot be read, or holds what cannot be.
        """
        columns = read_columns(folder)
        columns.pop("return")
        return Episodes(**columns)


def rewards_to_go(reward: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Sum of an episode's rewards from each step on, (N,) float32.

    Summed backwards within each episode, so that it is exactly 0 for an episode without reward.
    """
    to_go = np.array(reward, dtype=np.float32)
    longest_first = np.argsort(-length, kind="stable")
    last, sorted_length = (start + length - 1)[longest_first], length[longest_first]
    for back in range(1, int(length.max(initial=1))):
        row = last[: np.searchsorted(-sorted_length, -back)] - back
        to_go[row] += to_go[row + 1]
    return to_go


class EpisodeWriter:
    """Appends finished episodes; memory use does not grow with the number of steps.

    Args:
        out: The artefact's folder; leftovers of an interrupted writer are overwritten.
        worlds: What the worlds' grids were numbered with, where facts are recorded.
    """

    def __init__(self, out: Path, worlds: StateTable | None = None):
        self.out, self.worlds = out, worlds
        self.types = _STEP_TYPES if worlds is None else {**_STEP_TYPES, **POSES}
        self._raw = {name: (out / f"{name}.raw").open("wb") for name in self.types}
        self._episodes: dict[str, list[np.ndarray]] = {
            k: [] for k in ("length", "outcome", "temperature")
        }
        self._ids: dict[bytes, int] = {}

    def identify(self, observations: np.ndarray) -> np.ndarray:
        """Row numbers (n,) i32 of observations (n, 7, 7, 3) in the table of distinct ones, which grows."""
        flat = np.ascontiguousarray(observations).reshape(len(observations), -1)
        view = flat.view([("", np.void, flat.shape[1])]).ravel()
        distinct, inverse = np.unique(view, return_inverse=True)
        ids = [self._ids.setdefault(row.tobytes(), len(self._ids)) for row in distinct]
        return np.asarray(ids, np.int32)[inverse]

    def append(
        self,
        steps: Mapping[str, np.ndarray],
        length: np.ndarray,
        outcome: np.ndarray,
        temperature: float,
        target: float | None = None,
    ) -> None:
        """Append k episodes.

        Args:
            steps: ``observation``, ``action``, ``reward``, with facts also those of ``poses.arrow``:
                (k, horizon) each, padded behind ``length``.
            length: (k,) steps of each episode. outcome: (k,) :class:`Outcome`.
            temperature: Of the policy that played them.
            target: Reward-to-go that it was given at the start; for all episodes of a dataset or for none.
        """
        real = np.arange(steps["action"].shape[1]) < length[:, None]
        for name, kind in self.types.items():
            self._raw[name].write(steps[name][real].astype(kind).tobytes())
        self._episodes["length"].append(length.astype(np.int32))
        self._episodes["outcome"].append(outcome.astype(np.uint8))
        self._episodes["temperature"].append(np.full(len(length), temperature, np.float32))
        if target is not None:
            self._episodes.setdefault("target", []).append(np.full(len(length), target, np.float32))

    def close(self) -> None:
        """Close the files of a writer that does not finish."""
        for handle in self._raw.values():
            handle.close()

    def finish(
        self,
        validation: float,
        seed: int,
        metadata: Mapping[str, str],
        split: np.ndarray | None = None,
    ) -> None:
        """Write the three files.

        Args:
            validation: Share of the episodes that are held out.
            seed: Of the choice of held-out episodes.
            metadata: Kept in the schema of ``episodes.arrow``: where the episodes come from.
            split: (episodes,) :class:`Split`, where it was chosen before; None to choose.
        """
        columns = {}
        for name, kind in self.types.items():
            self._raw[name].close()
            path = self.out / f"{name}.raw"
            columns[name] = np.memmap(path, kind, "r") if path.stat().st_size else np.zeros(0, kind)
        episodes = {k: np.concatenate(v) for k, v in self._episodes.items()}
        start = np.cumsum(episodes["length"], dtype=np.int64) - episodes["length"]
        if split is None:
            place = np.random.default_rng(seed).permutation(len(start))
            held_out = place < round(validation * len(start))
            split = np.where(held_out, Split.VALIDATION, Split.TRAIN)
        _write(self.out / "steps.arrow", {name: columns[name] for name in _STEP_TYPES}, {})
        if self.worlds is not None:
            _write(self.out / "poses.arrow", {name: columns[name] for name in POSES}, {})
            grids = self.worlds.grids
            size = {"columns": str(grids.shape[1]), "rows": str(grids.shape[2])}
            _write(self.out / "worlds.arrow", {"cells": _lists(grids)}, size)
        _write(
            self.out / "episodes.arrow",
            {
                "start": start,
                "length": episodes["length"],
                "return": np.add.reduceat(columns["reward"], start).astype(np.float32),
                "outcome": episodes["outcome"],
                "temperature": episodes["temperature"],
                "split": split.astype(np.uint8),
                **{name: episodes[name] for name in ("target",) if name in episodes},
            },
            metadata,
        )
        cells = np.frombuffer(b"".join(self._ids), np.uint8).reshape(-1, *OBSERVATION_SHAPE)
        _write(self.out / "observations.arrow", {"observation": _lists(cells)}, {})
        del columns
        for name in self.types:
            (self.out / f"{name}.raw").unlink()


def _lists(rows: np.ndarray) -> pa.FixedSizeListArray:
    """Arrays (n, ...) as a column of n lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), int(np.prod(rows.shape[1:])))


def _write(
    path: Path, columns: Mapping[str, np.ndarray | pa.Array], metadata: Mapping[str, str]
) -> None:
    arrays: list[pa.Array] = [
        c if isinstance(c, pa.Array) else pa.array(c) for c in columns.values()
    ]
    schema = pa.schema(
        [(n, a.type) for n, a in zip(columns, arrays, strict=True)], metadata=dict(metadata)
    )
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))
