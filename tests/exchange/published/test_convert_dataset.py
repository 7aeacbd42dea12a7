"""Trajectory files of the studies: converted step by step, and nothing in them does anything."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from dtx.config.compose import build_group
from dtx.dataset.episodes import Outcome
from dtx.dataset.imported import Imported
from dtx.env.encoding import one_hot
from dtx.errors import UserError
from dtx.exchange.published.checkpoint import digest_of
from dtx.exchange.published.convert_dataset import write
from dtx.exchange.published.trajectories import is_pickle, unpickled
from tests.published import RAW, put_into_store, write_trajectories

T, N = 7, 2


def imported(file: Path, *, unsafe_pickle: bool) -> Imported:
    return Imported(
        env=build_group("env/memory"),
        file=file,
        digest=digest_of(file),
        unsafe_pickle=unsafe_pickle,
        validation=0,
        seed=0,
    )


def trajectories(**changes) -> dict[str, np.ndarray]:
    """Two environments: one ends by success, by the limit, and goes on; one fails late."""
    rng = np.random.default_rng(0)
    grid = (T, N)
    data = {
        "observations": rng.integers(0, [11, 6, 3], (*grid, 7, 7, 3)).astype(float),
        "actions": rng.integers(0, 7, grid),
        "rewards": np.zeros(grid),
        "dones": np.zeros(grid, bool),
        "truncated": np.zeros(grid, bool),
        "rtgs": np.array([]),
        "infos": np.array([{"final_info": [None, {"a": np.int64(3)}]}] * T, dtype=object),
    }
    data["dones"][2, 0] = data["dones"][6, 1] = data["truncated"][4, 0] = True
    data["rewards"][2, 0] = 0.75
    return {**data, **changes}


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".pkl"])
@pytest.mark.parametrize("encoded", [False, True])
def test_every_step_is_there(suffix, encoded, tmp_path):
    data = trajectories()
    seen = data["observations"].astype(np.uint8)
    if encoded:
        data["observations"] = one_hot(seen).astype(float)
    file = write_trajectories(tmp_path / f"a{suffix}", data, RAW if encoded else json.dumps(RAW))
    assert is_pickle(file)
    episodes = put_into_store(imported(file, unsafe_pickle=True), tmp_path / "store")
    expected = [(0, 0, 3, Outcome.SUCCESS), (0, 3, 5, Outcome.TRUNCATED), (1, 0, 7, Outcome.WRONG)]
    assert len(episodes.start) == len(expected)
    for i, (n, begin, end, outcome) in enumerate(expected):
        steps = slice(episodes.start[i], episodes.start[i] + episodes.length[i])
        assert episodes.outcome[i] == outcome
        assert (episodes.observations[episodes.observation[steps]] == seen[begin:end, n]).all()
        assert (episodes.action[steps] == data["actions"][begin:end, n]).all()
        assert (episodes.reward[steps] == data["rewards"][begin:end, n]).all()
    assert str(unpickled(file)["env"]) == RAW["env_id"]


def test_without_the_flag_a_pickle_is_not_read(tmp_path):
    file = write_trajectories(tmp_path / "a.gz", trajectories(), RAW)
    with pytest.raises(UserError, match=r"dataset\.unsafe_pickle=true"):
        imported(file, unsafe_pickle=False).run(tmp_path)


class HostileEntry:
    def __reduce__(self):
        return (exec, ("open('was_here', 'w').close()",))


class Harmless:
    """A class that the reading process does not know."""

    def __init__(self):
        self.space = {"n": 7}


def test_objects_in_a_pickle_do_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = {**RAW, "device": Harmless(), "trap": HostileEntry()}
    infos = np.array([HostileEntry(), Harmless()], dtype=object)
    file = write_trajectories(tmp_path / "a.pkl", trajectories(infos=infos), args)
    assert str(unpickled(file)["env"]) == RAW["env_id"]
    file.write_bytes(pickle.dumps(HostileEntry()))
    with pytest.raises(
        UserError, match=r"a.pkl: cannot be read as trajectories \(ValueError: it holds no"
    ):
        unpickled(file)
    assert not list(tmp_path.rglob("was_here"))
    file.write_bytes(b"\x80\x04 no pickle")
    with pytest.raises(UserError, match="cannot be read as trajectories"):
        unpickled(file)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"observations": np.zeros((T, N, 5, 5, 3))},
            r"data.observations has shape \[7, 2, 5, 5, 3\]",
        ),
        ({"observations": np.full((T, N, 7, 7, 3), 0.5)}, "no index"),
        ({"observations": np.full((T, N, 7, 7, 3), 12)}, "beyond 11 objects"),
        ({"observations": np.zeros((T, N, 7, 7, 20))}, "no one-hots"),
        ({"actions": np.zeros(T)}, r"data.actions has shape \[7\], but \[7, 2\]"),
        ({"actions": np.full((T, N), -1)}, "something else than 0 to 6"),
        ({"actions": np.full((T, N), 7)}, "something else than 0 to 6"),
        ({"rewards": np.full((T, N), np.nan)}, "not finite"),
        ({"rewards": np.array([None])}, "data.rewards is no array of numbers"),
        ({"dones": np.zeros((T, N)), "truncated": np.zeros((T, N))}, "no episode that ended"),
    ],
)
def test_what_cannot_be_mapped_is_refused(changes, words, tmp_path):
    file = write_trajectories(tmp_path / "a.gz", trajectories(**changes), RAW)
    with pytest.raises(UserError, match=words):
        write(file, tmp_path, 7, 0, 0, "imported-1")


def test_a_missing_array_is_named(tmp_path):
    data = trajectories()
    del data["truncated"]
    with pytest.raises(UserError, match=r"data.truncated is missing"):
        unpickled(write_trajectories(tmp_path / "a.gz", data, RAW))
