"""The best feature of each fact: counts by hand, planted facts that are found, and facts that are none."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csc_array

from dtx.analysis.core.result import Result, Verdict
from dtx.analysis.features.compute import compute
from dtx.analysis.features.coverage import (
    always_on,
    choose,
    count,
    levels_of,
    over_groups,
    quantiles,
    score,
)
from dtx.analysis.features.data import prepared
from dtx.analysis.features.plots import draw
from dtx.analysis.features.sources import Reading, Which, encoded
from dtx.analysis.features.spec import FeaturesSpec
from dtx.dictionary.autoencoder import SparseAutoencoder
from dtx.dictionary.controls import random
from dtx.dictionary.spec import How
from dtx.errors import UserError
from tests.legible import problems

HOOK = "blocks.1.hook_resid_post"
WHICH = Which(HOOK, 24, 4)
SPEC = FeaturesSpec(
    facts={}, least=0.01, tokens=None, rows=None, thresholds=4, untrained=3, shuffled=100, sample=400,
    sparse=(1, 3), precision=0.95, main=0.9, recall=0.95, alike=0.9, seed=0,
)  # fmt: skip


# --- counting ----------------------------------------------------------------------------------------


def some(n: int = 90, f: int = 7, m: int = 5, seed: int = 0):
    """Sparse features, facts, weights and groups of episodes."""
    rng = np.random.default_rng(seed)
    values = np.where(rng.random((n, f)) < 0.4, rng.exponential(size=(n, f)), 0).astype(np.float32)
    facts = rng.random((n, m)) < rng.uniform(0.2, 0.7, m)
    return values, facts, rng.integers(1, 6, n), rng.integers(0, 6, n)


def f1(told: np.ndarray, true: np.ndarray, weight: np.ndarray) -> float:
    """By its definition."""
    both = weight[told & true].sum()
    precision, recall = both / max(weight[told].sum(), 1), both / weight[true].sum()
    return 2 * precision * recall / (precision + recall) if both else 0.0


@pytest.mark.parametrize("dense", [False, True])
def test_the_choice_is_the_best_of_all_by_trying_each(dense):
    values, facts, weight, group = some()
    chosen_on, scored_on = np.arange(0, 90, 2), np.arange(1, 90, 2)
    levels = levels_of(values if dense else csc_array(values), chosen_on, weight, 3)
    choice = choose(count(levels, chosen_on, weight, facts), levels.two_sided)
    scores = score(levels, choice, scored_on, weight, facts, group)
    for fact in range(facts.shape[1]):
        tried = {}
        for feature, level in itertools.product(range(7), range(3)):
            on = values[:, feature] > levels.cuts[feature, level]
            for below in (False, True) if dense else (False,):
                told = on ^ below
                tried[feature, level, below] = f1(
                    told[chosen_on], facts[chosen_on, fact], weight[chosen_on]
                )
        assert choice.f1[fact] == pytest.approx(max(tried.values()), abs=1e-12)
        found = choice.feature[fact], choice.level[fact], choice.below[fact]
        assert tried[found] == pytest.approx(choice.f1[fact], abs=1e-12)
        told = (values[:, found[0]] > levels.cuts[found[:2]]) ^ found[2]
        on_others = f1(told[scored_on], facts[scored_on, fact], weight[scored_on])
        assert scores.f1[fact] == pytest.approx(on_others, abs=1e-12)


def test_a_row_that_counts_thrice_is_three_rows():
    values, facts, weight, group = some()
    again = np.repeat(np.arange(90), weight)
    once = np.ones(len(again), int)
    of_rows = []
    for v, t, w, g in (
        (values, facts, weight, group),
        (values[again], facts[again], once, group[again]),
    ):
        rows = np.arange(len(v))
        levels = levels_of(csc_array(v), rows, w, 4)
        choice = choose(count(levels, rows, w, t))
        of_rows.append((levels.cuts, choice.f1, score(levels, choice, rows, w, t, g).influence))
    for one, other in zip(*of_rows, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_quantiles_are_values_that_occur():
    x, weight = np.array([5.0, 1.0, 3.0]), np.array([1, 8, 1])
    assert quantiles(x, weight, np.array([0.1, 0.8, 0.85, 0.95])).tolist() == [1, 1, 3, 5]


def test_always_on_is_2p_over_1_plus_p():
    _, facts, weight, group = some()
    share = weight @ facts / weight.sum()
    found = always_on(np.arange(90), weight, facts, group)
    np.testing.assert_allclose(found.f1, 2 * share / (1 + share))


def test_the_interval_over_episodes_covers_the_truth():
    """Episodes of ten equal rows, which are one observation each: 95% of intervals hold the F1 of all."""
    rng, hits = np.random.default_rng(0), []
    truth = 2 * 0.24 / (0.3 + 0.38)  # fact .3; on at .8 of it and at .2 of the rest
    rows, weight = np.arange(3000), np.ones(3000, int)
    group = np.repeat(np.arange(300) % 25, 10)
    for _ in range(100):
        fact = rng.random(300) < 0.3
        on = np.where(fact, rng.random(300) < 0.8, rng.random(300) < 0.2)
        fact, on = np.repeat(fact, 10)[:, None], np.repeat(on, 10)[:, None]
        levels = levels_of(csc_array(on.astype(np.float32)), rows, weight, 1)
        choice = choose(count(levels, rows, weight, fact))
        scores = score(levels, choice, rows, weight, fact, group)
        estimate = over_groups(float(scores.f1[0]), scores.influence[:, 0])
        hits.append(estimate.low <= truth <= estimate.high)
    assert 0.91 <= np.mean(hits) <= 0.99


# --- identities --------------------------------------------------------------------------------------


def test_features_in_another_order_and_a_permuted_decoder_leave_the_scores():
    values, facts, weight, group = some(400)
    rows, order = np.arange(400), np.random.default_rng(1).permutation(7)

    def scored(v: Any) -> np.ndarray:
        levels = levels_of(csc_array(v), rows, weight, 4)
        return score(
            levels, choose(count(levels, rows, weight, facts)), rows, weight, facts, group
        ).f1

    np.testing.assert_array_equal(scored(values), scored(values[:, order]))
    x = np.random.default_rng(2).normal(size=(400, 12)).astype(np.float32)
    sae = random(12, 12, 4, 0)
    mixed = dict(
        sae.weights,
        W_dec=sae.weights["W_dec"][torch.randperm(12, generator=torch.Generator().manual_seed(0))],
    )
    other = SparseAutoencoder("topk", mixed, "", k=4)
    np.testing.assert_array_equal(scored(encoded(sae, x, rows)), scored(encoded(other, x, rows)))
    error = [
        float((s.reconstruct(torch.from_numpy(x)) - torch.from_numpy(x)).norm())
        for s in (sae, other)
    ]
    assert (
        error[1] > 1.3 * error[0]
    )  # what features tell is no matter of the decoder; what they rebuild is


# --- planted facts -----------------------------------------------------------------------------------


@dataclass
class Stored:
    """Activations in memory."""

    columns: dict[str, np.ndarray]
    x: np.ndarray

    def array(self, hook: str) -> np.ndarray:
        return self.x

    def __len__(self) -> int:
        return len(self.x)


class Made(dict):
    """Dictionaries in memory, by name."""

    def __init__(self, saes: dict[tuple[int, str], SparseAutoencoder]):
        super().__init__({f"{how}-{seed}": sae for (seed, how), sae in saes.items()})
        self.frame = pd.DataFrame(
            [
                {
                    "name": f"{how}-{seed}",
                    "hook": HOOK,
                    "width": 24,
                    "sparsity": 4,
                    "seed": seed,
                    "how": how,
                }
                for seed, how in saes
            ]
        )


@dataclass
class Table:
    """Facts in memory."""

    names: list[str]
    values: np.ndarray
    group: list[str]
    one_hots: np.ndarray

    def inputs(self) -> np.ndarray:
        return self.one_hots


def planted(n: int = 3000, seeds: int = 4, learnt: bool = True) -> dict[str, Any]:
    """A model that writes eight facts to directions of its own, three of which the input tells by itself.

    Untrained networks, and without ``learnt`` the model, too, have the view's cells in random directions.
    """
    rng = np.random.default_rng(0)
    view = rng.integers(0, 40, n)
    cells = rng.random((40, 12)) < 0.4  # of each view
    clock = rng.integers(0, 8, n)
    facts = np.zeros((n, 8), bool)
    facts[:, :3] = cells[view][:, :3]
    for place in range(3, 8):  # from the view's cells and the clock together
        facts[:, place] = cells[view][:, place] & (clock % (place - 1) == 0)
    groups = ["view"] * 3 + ["computed"] * 5
    columns = {
        "prefix": np.arange(n), "episode": rng.integers(0, 300, n), "view": view,
        "count": rng.geometric(0.3, n), "step": clock, "kind": np.ones(n), "start": np.zeros(n),
    }  # fmt: skip

    def written(what: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        mine = np.random.default_rng(seed)
        directions = np.linalg.qr(mine.normal(size=(24, 24)))[0][: what.shape[1]]
        return (what @ directions + 0.01 * mine.normal(size=(n, 24))).astype(np.float32), directions

    def network(seed: int) -> Reading:
        seen = np.concatenate([cells[view], np.eye(8)[clock]], 1).astype(float)
        x, _ = written(seen @ np.random.default_rng(seed).normal(size=(20, 20)), seed)
        return Reading(Stored(columns, x), Made({(0, "trained"): random(24, 24, 4, seed)}))  # type: ignore[arg-type]

    x, directions = (
        written(facts.astype(float), 100) if learnt else (network(99).stored.array(HOOK), None)
    )

    def learnt_by(seed: int) -> SparseAutoencoder:
        if directions is None:
            return random(24, 24, 4, seed)
        rows = torch.zeros(24, 24)
        rows[torch.randperm(24, generator=torch.Generator().manual_seed(seed))[:8]] = (
            torch.from_numpy(directions).float()
        )
        weights = {
            "W_enc": rows.T.contiguous(),
            "W_dec": rows,
            "b_dec": torch.zeros(24),
            "b_enc": torch.full((24,), -0.3),
        }
        return SparseAutoencoder("topk", weights, HOOK, k=8)

    ways = [how.value for how in How if how is not How.trained]
    return {
        "model": Reading(
            Stored(columns, x), Made({(s, "trained"): learnt_by(s) for s in range(seeds)})
        ),  # type: ignore[arg-type]
        "untrained": [network(seed) for seed in range(3)],
        "frozen": Made({(0, how): random(24, 24, 4, 50 + i) for i, how in enumerate(ways)}),
        "table": Table(
            [f"fact {i}" for i in range(8)], facts, groups, cells[view].astype(np.uint8)
        ),
        "rows": np.arange(n),
    }


@pytest.fixture(scope="module")
def of_planted() -> Result:
    return compute(SPEC, WHICH, **planted())


def test_planted_facts_are_found_and_those_of_the_input_are_not_beyond_it(of_planted):
    result = of_planted
    assert result.established, list(result.reasons())
    facts = result.tables["facts"].set_index("fact")
    assert (facts.f1 > 0.97).all()
    assert facts.beyond.tolist() == [False] * 3 + [True] * 5
    assert (facts.best_control[:3] == "input").all() and (facts.margin[:3].abs() < 0.03).all()
    assert result.claim("beyond_computed").verdict is Verdict.CONFIRMED
    assert result.claim("beyond_view").verdict is not Verdict.CONFIRMED
    m = result.metrics
    assert m["margin_computed"] > 0.3 and m["margin_computed"] == pytest.approx(
        facts.margin[3:].mean()
    )
    assert m["board"] > 0.98 > 0.9 > m["board_untrained"]
    assert m["probe_1"] > 0.97 and m["probe_dense"] > 0.97
    assert m["agreement"] == 1 and m["agreement_untrained"] < 0.3 and m["duplicates"] == 0
    assert m["absorbed"] == 0 and m["split"] == 1
    assert max(check.error for check in result.checks) == pytest.approx(0, abs=1e-9)


def test_an_untrained_model_has_nothing_beyond_untrained_ones():
    result = compute(SPEC, WHICH, **planted(learnt=False))
    assert not any(claim.verdict is Verdict.CONFIRMED for claim in result.claims)
    assert result.tables["facts"].beyond.sum() <= 1 and result.metrics["margin"] < 0.03


def test_facts_that_are_none_do_not_come_out(of_planted):
    assert of_planted.metrics["shuffled_share"] <= 0.05
    assert of_planted.metrics["random_label_share"] <= 0.05
    assert [c.holds for c in of_planted.controls] == [True, True]


def test_features_that_know_labels_of_views_fail_their_control():
    """A feature for each of 24 labels: the input cannot tell them, nor can an untrained network."""
    given = planted(1500)
    data = prepared(SPEC, given["model"].stored, given["table"], given["rows"])
    labels = data.facts[:, len(data.names) + SPEC.shuffled :]
    given["model"].stored.x = labels[:, :24].astype(np.float32)
    eye, zeros = torch.eye(24), torch.zeros(24)
    weights = {"W_enc": eye, "W_dec": eye, "b_dec": zeros, "b_enc": zeros}
    for name in given["model"].dictionaries:
        given["model"].dictionaries[name] = SparseAutoencoder("standard", weights, HOOK)
    result = compute(SPEC, WHICH, **given)
    assert result.metrics["random_label_share"] >= 0.2
    assert not result.established and "random labels" in next(iter(result.reasons()))


def test_three_seeds_are_not_enough_and_one_has_no_interval():
    for seeds in (1, 3):
        result = compute(SPEC, WHICH, **planted(1000, seeds))
        claim = result.claim("beyond_computed")
        assert claim.verdict is Verdict.NOT_DECIDED and f"{seeds} of 4 seeds" in claim.evidence


def test_activations_of_other_rows_are_no_control():
    given = planted(600)
    first = given["untrained"][0].stored
    given["untrained"][0] = Reading(
        Stored({**first.columns, "step": first.columns["step"] + 1}, first.x),
        given["untrained"][0].dictionaries,
    )
    result = compute(SPEC, WHICH, **given)
    assert not result.established and "another token" in next(iter(result.reasons()))


def test_without_facts_nothing_is_established():
    given = planted(600)
    given["table"] = Table([], np.zeros((600, 0), bool), [], given["table"].one_hots)
    result = compute(SPEC, WHICH, **given)
    assert not result.established and "no fact" in result.summary
    plt.close(draw(result))


def test_a_dictionary_of_another_width_and_a_feature_that_is_no_number_are_refused():
    x = np.zeros((5, 6), np.float32)
    with pytest.raises(UserError, match="vectors of 8 cannot read activations of 6"):
        encoded(random(8, 4, 2, 0), x, np.arange(5))
    x[3, 2] = np.nan
    with pytest.raises(UserError, match="not a number at row 3"):
        encoded(random(6, 4, 2, 0), x, np.arange(5))


def test_the_figure_can_be_read_and_says_how_many(of_planted):
    figure = draw(of_planted)
    assert problems(figure) == []
    assert "5 of 8 facts" in " ".join(figure.texts[0].get_text().split())
    plt.close(figure)
