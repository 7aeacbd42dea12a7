"""What the page knows of a model's training data."""

import numpy as np
import pytest

from dtx.app import training_data
from dtx.app.training_data import Returns, TrainingData
from dtx.pairs.distance import distances


@pytest.fixture
def data():
    observations = np.random.default_rng(0).integers(0, 4, (30, 7, 7, 3), np.uint8)
    return TrainingData(Returns(0.0, 1.0), observations)


@pytest.fixture
def views(data):
    views = np.random.default_rng(1).integers(0, 4, (12, 7, 7, 3), np.uint8)
    views[3] = data.observations[5]
    return views


@pytest.mark.parametrize("kept", [training_data.MOST_VIEWS, 1])
def test_distances_are_those_of_each_view_by_itself(kept, data, views, monkeypatch):
    monkeypatch.setattr(training_data, "MOST_VIEWS", kept)
    expected = distances(views, data.observations)
    assert expected[3] == 0 < expected[4]
    for rows in ([0, 1, 0], [1, 3, 4, 4], range(12), [11, 0]):
        np.testing.assert_array_equal(data.distances(views[rows]), expected[rows])


def test_what_is_kept_may_be_cleared_by_the_other_lane(data, views, monkeypatch):
    def compared(*given):
        data._distance.clear()  # as another request does
        return distances(*given)

    monkeypatch.setattr(training_data, "distances", compared)
    data.distances(views[:3])
    np.testing.assert_array_equal(data.distances(views), distances(views, data.observations))
