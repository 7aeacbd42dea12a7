"""One-hot encoding: its order is that of the published checkpoints."""

import numpy as np
import pytest
import torch

from dtx.env import encoding


@pytest.fixture
def observations() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([rng.integers(0, k, (5, 7, 7)) for k in (11, 6, 3)], axis=-1).astype(np.uint8)


def test_one_hot_has_one_of_each_kind_in_every_cell(observations: np.ndarray) -> None:
    hot = encoding.one_hot(observations)
    assert hot.shape == (5, 7, 7, 20)
    kinds = np.split(hot, encoding.OFFSETS[1:], axis=-1)
    assert all((kind.sum(-1) == 1).all() for kind in kinds)
    decoded = np.stack([kind.argmax(-1) for kind in kinds], axis=-1)
    np.testing.assert_array_equal(decoded, observations)


def test_flat_index_is_channel_times_49_plus_x_times_7_plus_y() -> None:
    observation = np.zeros((1, 7, 7, 3), dtype=np.uint8)
    observation[0, 2, 6] = 5, 1, 2  # x=2, y=6: key, green, state 2
    flat = encoding.flatten(encoding.one_hot(observation))[0]
    assert flat.shape == (980,)
    for channel in (5, 11 + 1, 17 + 2):
        assert flat[channel * 49 + 2 * 7 + 6] == 1
    assert flat[0 * 49 + 2 * 7 + 6] == 0


def test_active_indices_are_where_the_flat_one_hot_is_one(observations: np.ndarray) -> None:
    flat = encoding.flatten(encoding.one_hot(observations))
    indices = encoding.active_indices(torch.from_numpy(observations))
    for row, index in zip(flat, indices, strict=True):
        np.testing.assert_array_equal(np.flatnonzero(row), np.sort(index.numpy()))


def test_distinct_gives_every_observation_back(observations: np.ndarray) -> None:
    repeated = observations[[3, 1, 3, 0, 1, 1]]
    distinct, index = encoding.distinct(repeated)
    assert len(distinct) == 3
    np.testing.assert_array_equal(distinct[index], repeated)


def test_an_index_beyond_the_encoding_is_an_error(observations: np.ndarray) -> None:
    observations[0, 0, 0, 2] = 3
    with pytest.raises(ValueError, match="beyond"):
        encoding.one_hot(observations)
