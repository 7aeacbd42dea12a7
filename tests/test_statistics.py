"""Bootstrap intervals of many columns."""

from __future__ import annotations

import numpy as np
import pytest

from dtx.statistics import bootstrap_columns


@pytest.mark.parametrize("n", [1, 4, 30])
def test_intervals_of_columns_are_the_quantiles_of_all_resampled_means(n):
    values = np.random.default_rng(1).normal(size=(n, 1500))
    low, high = bootstrap_columns(values, 400, seed=3)
    drawn = np.random.default_rng(3).multinomial(n, np.full(n, 1 / n), size=400)
    expected = np.quantile(drawn @ values / n, [0.025, 0.975], axis=0)
    np.testing.assert_allclose([low, high], expected, atol=1e-12)


def test_columns_without_values_have_no_interval():
    low, high = bootstrap_columns(np.empty((0, 3)), 10, 0)
    assert low.shape == (3,) and np.isnan(low).all() and np.isnan(high).all()
