"""Intervals cover the truth as often as they say, measured by simulation; and the helpers beside them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from dtx.resampling import bca_ends
from dtx.statistics import (
    FEW,
    MANY,
    bootstrap_estimate,
    difference_estimate,
    enumerated,
    holm,
    mean_columns,
    mean_estimate,
    next_estimate,
    ratio_estimate,
    share_estimate,
    spearman,
    spearman_estimate,
)

SIZES = [4, 5, 8, 30, 400]
DRAWN = 1000
"""Simulated samples. The measured coverage of a 95% interval has a standard error of .007."""


def normal(rng: np.random.Generator, n: int, drawn: int) -> tuple[np.ndarray, float]:
    return rng.normal(3, 2, (n, drawn)), 3.0


def returns(share: float):
    """Memory's returns: 0 for failures, about .9 for successes, which lose a little with each step."""

    def draw(rng: np.random.Generator, n: int, drawn: int) -> tuple[np.ndarray, float]:
        success = rng.random((n, drawn)) < share
        return np.where(success, 0.94 - 0.06 * rng.beta(1, 3, (n, drawn)), 0.0), share * 0.925

    return draw


def shares(share: float):
    def draw(rng: np.random.Generator, n: int, drawn: int) -> tuple[np.ndarray, float]:
        return (rng.random((n, drawn)) < share).astype(float), share

    return draw


def skewed(rng: np.random.Generator, n: int, drawn: int) -> tuple[np.ndarray, float]:
    return rng.exponential(1.0, (n, drawn)), 1.0


def covered(draw, n: int, bounds=None, seed: int = 5) -> tuple[float, str]:
    values, truth = draw(np.random.default_rng(seed), n, DRAWN)
    found = mean_columns(values, bounds=bounds)
    return float(np.mean((found.low <= truth) & (truth <= found.high))), found.kind[0]


@pytest.mark.parametrize("n", [2, *SIZES])
def test_means_of_normal_numbers(n):
    share, kind = covered(normal, n)
    assert 0.93 <= share <= 0.97
    assert kind == f"{'t' if n < FEW else 'BCa'} over {n} episodes"


@pytest.mark.parametrize("success", [0.5, 0.8, 0.1])
@pytest.mark.parametrize("n", SIZES)
def test_means_of_returns_within_their_bounds(n, success):
    share, kind = covered(returns(success), n, bounds=(0, 1))
    # Conservative by construction, as the exact binomial interval: the more so, the fewer there are.
    assert share >= (0.93 if n >= FEW else 0.95)
    assert n < 400 or share <= 0.97
    assert kind == f"Gaffke over {n} episodes"


@pytest.mark.parametrize("n", [4, 8])
def test_without_their_bounds_two_point_numbers_are_not_covered_below_thirty(n):
    """What the module says of t, and why returns are given their bounds."""
    assert covered(returns(0.8), n)[0] < 0.9


@pytest.mark.parametrize(("n", "least"), [(4, 0.85), (8, 0.87), (30, 0.91), (400, 0.93)])
def test_means_of_numbers_of_gross_skewness_cover_less_as_the_module_says(n, least):
    assert least <= covered(skewed, n)[0] <= 0.97


@pytest.mark.parametrize("n", [30, 400])
@pytest.mark.parametrize("success", [0.5, 0.8])
def test_bca_covers_returns(n, success):
    assert 0.93 <= covered(returns(success), n)[0] <= 0.985


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("truth", [0.02, 0.25, 0.5, 0.9])
def test_shares_cover_at_least_what_they_say(n, truth):
    """Exactly, from the probability of each count: conservative by construction."""
    likely = stats.binom.ppf([1e-6, 1 - 1e-6], n, truth).astype(int)
    found = {hits: share_estimate(hits, n) for hits in range(likely[0], likely[1] + 1)}
    inside = [h for h, e in found.items() if e.low <= truth <= e.high]
    assert stats.binom.pmf(inside, n, truth).sum() >= 0.95 - 1e-5


def test_shares_at_the_ends():
    found = share_estimate(400, 400)
    assert (round(found.low, 3), found.high, found.value) == (0.991, 1.0, 1.0)
    assert found.n == 400 and found.kind == "exact binomial, 400 episodes"
    assert math.isnan(share_estimate(0, 0).value)


@pytest.mark.parametrize(("hits", "n"), [(0, 4), (3, 8), (30, 30), (40, 400)])
def test_the_bounded_mean_of_zeros_and_ones_is_the_exact_binomial(hits, n):
    values = np.arange(n) < hits
    found, exact = mean_estimate(values, bounds=(0, 1)), share_estimate(hits, n)
    assert found.low == pytest.approx(exact.low, abs=0.012)
    assert found.high == pytest.approx(exact.high, abs=0.012)


def test_equal_returns_are_drawn_together():
    """The same ends as those of all one by one."""
    values = np.random.default_rng(0).choice([0.0, 0.9, 0.91, 0.92], 300)
    one, both = (
        mean_estimate(values, bounds=(0, 1)),
        mean_columns(values[:, None].repeat(2, 1), bounds=(0, 1)),
    )
    assert (one.low, one.high) == pytest.approx((both[0].low, both[0].high), abs=0.006)


def test_numbers_out_of_their_bounds_are_refused():
    with pytest.raises(ValueError, match=r"not in \[0, 1\]"):
        mean_estimate([0.5, 1.2], bounds=(0, 1))


@pytest.mark.parametrize("draw", [normal, skewed, returns(0.8)])
@pytest.mark.parametrize("n", [30, 400])
def test_bca_is_scipys(n, draw):
    values = draw(np.random.default_rng(3), n, 3)[0]
    means = np.random.default_rng(4).multinomial(n, np.full(n, 1 / n), size=999) @ values / n
    low, high = bca_ends(means, values, 0.93)
    for column in range(3):

        class Resampled:
            bootstrap_distribution = means[:, column]

        ends = stats.bootstrap(
            (values[:, column],),
            np.mean,
            n_resamples=0,
            bootstrap_result=Resampled,
            confidence_level=0.93,
            method="BCa",
        ).confidence_interval
        np.testing.assert_allclose([low[column], high[column]], ends, rtol=1e-6)


def test_bca_and_t_agree_where_one_takes_over_from_the_other():
    values = np.random.default_rng(0).normal(size=MANY + 1)
    one, other = mean_estimate(values[:-1]), mean_estimate(values)
    assert one.kind.startswith("BCa") and other.kind.startswith("t ")
    width = other.high - other.low
    assert abs(one.low - other.low) < 0.03 * width and abs(one.high - other.high) < 0.03 * width


@pytest.mark.parametrize("n", SIZES)
def test_differences_of_independent_samples(n):
    rng = np.random.default_rng(1)
    hits = [
        e.low <= 0 <= e.high
        for e in (
            difference_estimate(rng.normal(1, 1, n), rng.normal(1, 3, 2 * n)) for _ in range(600)
        )
    ]
    assert 0.93 <= np.mean(hits) <= 0.97


@pytest.mark.parametrize("n", [4, 8, 30])
def test_differences_of_returns(n):
    rng = np.random.default_rng(1)
    (one, a), (other, b) = returns(0.8)(rng, n, 200), returns(0.3)(rng, n, 200)
    found = [difference_estimate(x, y, bounds=(0, 1)) for x, y in zip(one.T, other.T, strict=True)]
    assert np.mean([e.low <= a - b <= e.high for e in found]) >= 0.95
    assert found[0].kind == f"Gaffke, {n} and {n} episodes"


@pytest.mark.parametrize("n", SIZES)
def test_where_one_more_lies(n):
    rng = np.random.default_rng(1)
    values = rng.normal(2, 3, (1500, n + 1))
    found = [next_estimate(row) for row in values[:, :-1]]
    inside = [e.low <= x <= e.high for e, x in zip(found, values[:, -1], strict=True)]
    assert 0.93 <= np.mean(inside) <= 0.97
    assert found[0].kind == f"t of one more, {n} untrained models"


@pytest.mark.parametrize("n", SIZES)
def test_ratios_of_sums(n):
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(600):
        length = rng.integers(3, 60, n)
        e = ratio_estimate(length * rng.normal(0.5, 0.2, n), length)
        hits.append(e.low <= 0.5 <= e.high)
    assert 0.93 <= np.mean(hits) <= 0.975  # standard error .009


@pytest.mark.parametrize("n", [30, 100])
def test_any_statistic(n):
    rng, hits = np.random.default_rng(1), []

    def ratio(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        return a.mean(axis) / b.mean(axis)

    for _ in range(200):
        one, other = rng.normal(2, 1, n), rng.normal(4, 1, n + 5)
        e = bootstrap_estimate([one, other], ratio, of="neurons")
        hits.append(e.low <= 0.5 <= e.high)
    assert 0.91 <= np.mean(hits) <= 0.99  # 200 drawn: its standard error is .015
    assert e.kind == f"BCa over {n} neurons"
    assert math.isnan(bootstrap_estimate([one[:9], other], ratio, of="neurons").low)


@pytest.mark.parametrize("truth", [0.0, 0.6, 0.95])
@pytest.mark.parametrize("n", [8, 12, 30, 400])
def test_rank_correlations(n, truth):
    rng, hits = np.random.default_rng(1), []
    for _ in range(600 if n < 400 else 300):
        a, b = rng.multivariate_normal([0, 0], [[1, truth], [truth, 1]], n).T
        e = spearman_estimate(a, b, of="pairs")
        hits.append(e.low <= 6 / math.pi * math.asin(truth / 2) <= e.high)
    assert 0.92 <= np.mean(hits) <= 0.98  # standard error .009 to .013


def test_rank_correlations_of_few_or_constant():
    a = np.arange(9.0)
    assert spearman_estimate(a, a, of="pairs").value == pytest.approx(1)
    assert spearman_estimate(a, a, of="pairs").high == pytest.approx(1)
    assert math.isnan(spearman_estimate(a[:5], a[:5], of="pairs").low)
    assert math.isnan(spearman(a, np.ones(9)))


def test_a_cluster_counts_once():
    rows = np.repeat([1.0, 2.0, 4.0, 5.0], [1, 50, 3, 200])
    names = np.repeat(["a", "b", "c", "d"], [1, 50, 3, 200])
    found, exact = mean_estimate(rows, clusters=names, of="layouts"), mean_estimate([1, 2, 4, 5])
    assert (found.value, found.low, found.n) == (3.0, exact.low, 4)
    assert found.kind == "t over 4 layouts"


def test_clusters_cover_where_rows_do_not():
    rng = np.random.default_rng(2)
    names = np.repeat(np.arange(8), 40)
    rows = rng.normal(size=(8, 1000)).repeat(40, 0) + rng.normal(size=(320, 1000))
    one, other = mean_columns(rows, clusters=names), mean_columns(rows)
    assert 0.93 <= np.mean((one.low <= 0) & (one.high >= 0)) <= 0.97
    assert np.mean((other.low <= 0) & (other.high >= 0)) < 0.6


def test_missing_values_are_left_out_and_not_counted():
    values = np.random.default_rng(1).normal(size=(6, 5))
    values[1, 2] = values[:, 3] = values[1:, 4] = np.nan
    found = mean_columns(values, of="pairs")
    assert found.n.tolist() == [6, 6, 5, 0, 1]
    assert found.kind[3:] == ["no interval, 0 pairs", "no interval, 1 pairs"]
    assert math.isnan(found[3].value) and found[4].value == values[0, 4]
    assert math.isnan(found[4].low) and found.kind[2] == "t over 5 pairs"
    alone = mean_estimate(values[:, 2], of="pairs")
    assert found[2] == alone and len(found) == 5


@pytest.mark.parametrize("n", [1, 2, 29, 30, 3000])
def test_equal_numbers_have_the_interval_that_their_kind_allows(n):
    found = mean_estimate(np.full(n, 0.3))
    assert (math.isnan(found.low) and n == 1) or found.low == pytest.approx(found.high)
    within = mean_estimate(np.full(n, 0.3), bounds=(0, 1))
    assert within.low < 0.3 < within.high


def test_what_was_enumerated_is_certain():
    found = enumerated(0.25, 4)
    assert (found.low, found.high, found.kind) == (0.25, 0.25, "all 4 layouts")
    assert not found.sampled and mean_estimate([1, 2]).sampled


def test_the_words_beside_a_number():
    assert str(mean_estimate([1.0, 2.0, 3.0, 4.0], of="layouts")) == (
        "2.5 [0.446, 4.55] (t over 4 layouts)"
    )
    assert str(mean_estimate([1.0])) == "1 (no interval, 1 episodes)"
    assert set(mean_estimate([1.0, 2.0]).columns()) == {"low", "high", "n", "interval"}


def test_holm():
    p = np.array([0.01, np.nan, 0.04, 0.03, 0.005])
    assert holm(p).tolist() == [True, False, False, False, True]
    assert not holm(np.array([])).any() and not holm(np.full(3, np.nan)).any()


def test_holm_errs_in_one_of_twenty_families():
    p = np.random.default_rng(0).random((2000, 30))
    assert np.mean([holm(row).any() for row in p]) == pytest.approx(0.05, abs=0.015)
