"""Probes against a slow fit, and what features are among themselves on features whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize
from scipy.sparse import csc_array, csr_array

from dtx.analysis.features.coverage import choose, count, levels_of
from dtx.analysis.features.probes import (
    RIDGE,
    best_cut,
    dense_probes,
    f1_of,
    logistic,
    sparse_probes,
)
from dtx.analysis.features.structure import (
    absorbed,
    agreement,
    board,
    carrying,
    correlations,
    duplicates,
    split,
)


def test_logistic_regression_is_that_of_a_general_minimiser():
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(300, 3)) * [1, 5, 0.1], rng.integers(1, 9, 300)
    y = rng.random(300) < 1 / (1 + np.exp(-(x @ [1, 0.4, -9] - 0.5)))
    share = weight / weight.sum()
    deviation = np.sqrt(share @ x**2 - (share @ x) ** 2)

    def loss(b: np.ndarray) -> float:
        z = x @ b[:3] + b[3]
        return share @ (np.logaddexp(0, z) - y * z) + RIDGE / 2 * ((b[:3] * deviation) ** 2).sum()

    slow = optimize.minimize(loss, np.zeros(4), tol=1e-12).x
    np.testing.assert_allclose(logistic(x, y, weight), slow, atol=2e-3 * np.abs(slow).max())


def test_logistic_regression_of_separable_data_ends():
    x = np.array([[0.0], [1.0], [2.0], [3.0]])
    b = logistic(x, x[:, 0] > 1, np.ones(4))
    assert np.isfinite(b).all() and ((x @ b[:1] + b[1] > 0) == (x[:, 0] > 1)).all()


def test_the_best_cut_is_the_best_of_all():
    rng = np.random.default_rng(1)
    for _ in range(20):
        scores, weight = rng.integers(0, 6, 30).astype(float), rng.integers(1, 4, 30)
        y = rng.random(30) < 0.4
        cuts = [-np.inf, *np.arange(6)]
        tried = max(f1_of(scores > cut, y, weight) for cut in cuts)
        assert f1_of(scores > best_cut(scores, y, weight), y, weight) == pytest.approx(tried)


def test_a_sparse_probe_finds_a_fact_of_three_features_and_a_dense_one_of_a_direction():
    rng = np.random.default_rng(2)
    values = np.where(rng.random((2000, 30)) < 0.15, rng.exponential(size=(2000, 30)), 0)
    facts = np.stack([values[:, 4] > 0, values[:, [3, 8, 11]].any(1), rng.random(2000) < 0.3], 1)
    weight, rows = rng.integers(1, 5, 2000), np.arange(2000)
    f1 = sparse_probes(csr_array(values), facts, weight, rows[::2], rows[1::2], (1, 3))
    assert f1[:, 0] == pytest.approx(1) and f1[0, 1] < 0.75 < 0.98 < f1[1, 1]
    always = 2 * 0.3 / 1.3
    assert (f1[:, 2] < always + 0.05).all()  # nothing tells it

    x = rng.normal(size=(2000, 10)) @ rng.normal(size=(10, 10))
    told = x @ rng.normal(size=10)
    facts = np.stack([told > 1, rng.random(2000) < 0.3], 1)
    dense = dense_probes(x, facts, weight, rows[::2], rows[1::2])
    assert dense[0] > 0.97 and dense[1] < always + 0.05


def carried(values: np.ndarray, facts: np.ndarray, weight: np.ndarray):
    """Levels with one threshold, the choice, and which feature carries which fact."""
    rows = np.arange(len(values))
    levels = levels_of(csc_array(values.astype(np.float32)), rows, weight, 1)
    counts = count(levels, rows, weight, facts)
    return rows, levels, choose(counts), carrying(counts, 0.95, facts.shape[1])


def test_a_specialist_absorbs_the_share_that_it_takes():
    rng = np.random.default_rng(3)
    fact, weight = rng.random(1000) < 0.4, rng.integers(1, 5, 1000)
    special = fact & (rng.random(1000) < 0.1)
    other = ~fact & (rng.random(1000) < 0.5)
    values = np.stack([fact & ~special, special, other], 1)
    facts = np.stack([fact, other], 1)
    rows, levels, choice, carries = carried(values, facts, weight)
    assert choice.feature.tolist() == [0, 2]
    assert carries[:, 0].tolist() == [[True, False], [True, False], [False, True]]
    found = absorbed(levels, choice, choice.f1, carries, rows, weight, facts, 0.9)
    assert found == pytest.approx([weight[special].sum() / weight[fact].sum(), 0])
    # A fact without a main feature has none that could be absorbed.
    assert np.isnan(absorbed(levels, choice, choice.f1, carries, rows, weight, facts, 0.999)[0])


def test_splitting_counts_the_features_that_most_of_the_recall_needs():
    part = np.random.default_rng(4).integers(
        0, 8, 4000
    )  # of a fact in three equal parts, and a rest
    fact = part < 4
    values = np.stack(
        [part == 0, part == 1, part == 2, (part == 0) & (np.arange(4000) % 9 == 0)], 1
    )
    weight = np.ones(4000, int)
    rows, levels, _, carries = carried(values, fact[:, None], weight)
    parts = split(levels, carries, rows, weight, fact[:, None], 0.95)
    assert parts.needed == 3 and parts.recall == pytest.approx(0.75, abs=0.03)
    assert split(levels, carries, rows, weight, fact[:, None], 0.6).needed == 2
    nothing = split(levels, np.zeros_like(carries), rows, weight, fact[:, None], 0.95)
    assert np.isnan(nothing.needed) and nothing.recall == 0


def test_one_hot_facts_give_the_whole_board_and_no_features_none_of_it():
    rng = np.random.default_rng(5)
    facts, weight = rng.random((500, 6)) < 0.3, rng.integers(1, 5, 500)
    rows, levels, _, carries = carried(facts, facts, weight)
    assert board(levels, carries, rows, weight, facts) == 1
    blank = ~facts.any(1)  # there, nothing is to be read
    none = board(levels, np.zeros_like(carries), rows, weight, facts)
    assert none == pytest.approx(weight[blank].sum() / weight.sum())


def test_a_feature_that_is_on_at_few_prefixes_carries_nothing():
    fact = np.arange(100) < 30
    values = np.stack([np.arange(100) < 9, np.arange(100) < 10], 1)
    *_, carries = carried(values, fact[:, None], np.ones(100, int))
    assert carries[:, 0, 0].tolist() == [False, True]


def test_correlations_duplicates_and_agreement():
    rng = np.random.default_rng(6)
    values = np.where(rng.random((800, 5)) < 0.3, rng.exponential(size=(800, 5)), 0)
    weight = rng.integers(1, 4, 800)
    again = np.repeat(values, weight, 0)
    sparse = csr_array(values)
    np.testing.assert_allclose(
        correlations(sparse, sparse, weight), np.corrcoef(again.T), atol=1e-10
    )
    assert duplicates(sparse, weight, 0.9) == 0
    twice = csr_array(np.column_stack([values, 2 * values[:, 3], np.zeros(800)]))
    assert duplicates(twice, weight, 0.9) == pytest.approx(2 / 6)  # the dead one is not counted
    mixed = csr_array(3 * values[:, [4, 1, 0, 3]])
    found = agreement(csr_array(np.column_stack([values, np.zeros(800)])), mixed, weight)
    assert found[[0, 1, 3, 4]] == pytest.approx(1) and found[2] < 0.2 and np.isnan(found[5])
