import numpy as np
import pyarrow as pa
import pytest

from dtx.dataset.episodes import Episodes, EpisodeWriter, Outcome


def write(tmp_path, parts=3, k=5, horizon=6, seed=0):
    """Random episodes written in several parts; gives what was written, episode by episode."""
    rng = np.random.default_rng(seed)
    writer, written = EpisodeWriter(tmp_path), []
    for part in range(parts):
        seen = rng.integers(0, 2, (k * horizon, 7, 7, 3), dtype=np.uint8) * (
            rng.random((k * horizon, 1, 1, 1)) < 0.5
        )
        ids = writer.identify(seen).reshape(k, horizon)
        length = rng.integers(1, horizon + 1, k)
        steps = {
            "observation": ids,
            "action": rng.integers(0, 7, (k, horizon)),
            "reward": rng.random((k, horizon)).astype(np.float32),
        }
        writer.append(steps, length, rng.integers(0, 3, k), temperature=part + 1)
        written += [
            (
                seen.reshape(k, horizon, 7, 7, 3)[i, :n],
                steps["action"][i, :n],
                steps["reward"][i, :n],
            )
            for i, n in enumerate(length)
        ]
    writer.finish(validation=0.2, seed=1, metadata={"agent": "ppo-1"})
    return written


def test_what_is_written_is_read(tmp_path):
    written = write(tmp_path)
    episodes = Episodes.read(tmp_path)
    assert len(episodes.start) == len(written)
    for (seen, action, reward), start, length in zip(
        written, episodes.start, episodes.length, strict=True
    ):
        rows = slice(start, start + length)
        assert (episodes.observations[episodes.observation[rows]] == seen).all()
        assert (episodes.action[rows] == action).all() and (episodes.reward[rows] == reward).all()
    assert len(
        np.unique(episodes.observations.reshape(len(episodes.observations), -1), axis=0)
    ) == len(episodes.observations)
    assert episodes.temperature.tolist() == [1] * 5 + [2] * 5 + [3] * 5
    assert episodes.split.sum() == 3
    assert not list(tmp_path.glob("*.raw"))


def test_columns_are_views_of_the_file_not_copies(tmp_path):
    write(tmp_path)
    before = pa.total_allocated_bytes()
    episodes = Episodes.read(tmp_path)
    assert pa.total_allocated_bytes() == before
    assert not episodes.action.flags.owndata and not episodes.action.flags.writeable


def test_returns_and_reward_to_go(tmp_path):
    written = write(tmp_path)
    episodes = Episodes.read(tmp_path)
    assert episodes.returns == pytest.approx([r.sum() for _, _, r in written], abs=1e-6)
    slow = np.concatenate([[r[t:].sum() for t in range(len(r))] for _, _, r in written])
    assert episodes.reward_to_go == pytest.approx(slow, abs=1e-6)


def test_leftovers_of_an_interrupted_writer_do_not_matter(tmp_path):
    (tmp_path / "clean").mkdir()
    (tmp_path / "dirty").mkdir()
    interrupted = EpisodeWriter(tmp_path / "dirty")
    interrupted.append(
        {k: np.zeros((1, 3), np.int32) for k in ("observation", "action", "reward")},
        np.array([3]),
        np.array([0]),
        1.0,
    )
    for handle in interrupted._raw.values():
        handle.close()
    write(tmp_path / "clean")
    write(tmp_path / "dirty")
    for name in ("steps", "episodes", "observations"):
        assert (tmp_path / "clean" / f"{name}.arrow").read_bytes() == (
            tmp_path / "dirty" / f"{name}.arrow"
        ).read_bytes()


def test_outcome_names_are_the_studys():
    assert [o.name for o in Outcome] == ["SUCCESS", "WRONG", "TRUNCATED"]
