"""Cutting a rollout into pieces loses no frame, and computes equal pieces once."""

import numpy as np
import pytest

from dtx.agent.sequences import cut


@pytest.fixture
def rollout() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((12, 6)) < 0.25, rng.integers(0, 3, (12, 6))


def test_every_frame_has_its_place_and_its_observation(rollout: tuple) -> None:
    begins, observation = rollout
    envs = np.array([4, 1, 5])
    pieces = cut(begins, observation, envs)
    expected = (np.arange(12)[:, None] * 6 + envs).ravel()
    np.testing.assert_array_equal(np.sort(pieces.frame_f), np.sort(expected))
    np.testing.assert_array_equal(
        pieces.observation_p[pieces.place_f], observation.ravel()[pieces.frame_f]
    )
    assert pieces.batch_sizes.sum() == len(pieces.observation_p)
    assert (np.diff(pieces.batch_sizes) <= 0).all()
    assert pieces.batch_sizes[0] == len(pieces.env) == len(pieces.carries)


def test_the_steps_before_a_frame_are_those_of_its_episode(rollout: tuple) -> None:
    begins, observation = rollout
    pieces = cut(begins, observation, np.arange(6))
    offset = np.concatenate([[0], np.cumsum(pieces.batch_sizes)])
    for frame, place in zip(pieces.frame_f, pieces.place_f, strict=True):
        t, env = divmod(int(frame), 6)
        start = max([s for s in range(t + 1) if begins[s, env]], default=0)
        depth = int(np.searchsorted(offset, place, side="right")) - 1
        piece = int(place - offset[depth])
        assert depth == t - start
        story = pieces.observation_p[offset[: depth + 1] + piece]
        np.testing.assert_array_equal(story, observation[start : t + 1, env])
        carried = not begins[: t + 1, env].any()
        assert pieces.carries[piece] == carried
        if carried:
            assert pieces.env[piece] == env


def test_equal_pieces_are_computed_once_unless_memory_is_carried_into_them() -> None:
    observation = np.tile(np.array([0, 1, 2, 0, 1, 2])[:, None], (1, 4))
    begins = np.zeros((6, 4), dtype=bool)
    begins[3] = True
    assert len(cut(begins, observation, np.arange(4)).env) == 5  # four carried, one new
    begins[0] = True
    pieces = cut(begins, observation, np.arange(4))
    assert len(pieces.env) == 1
    np.testing.assert_array_equal(pieces.observation_p, [0, 1, 2])
    assert len(pieces.frame_f) == 24
