"""Labels: trees are scikit-learn's, planted names are found, and what is not the model's gets none."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from dtx.analysis.core.verdicts import Verdict
from dtx.analysis.labels.compute import compute
from dtx.analysis.labels.judging import Judge
from dtx.analysis.labels.scores import F1, always_on, margin
from dtx.analysis.labels.sources import per_view, shuffled
from dtx.analysis.labels.spec import INPUT_ONLY, LEAF, NAMED, TRAINED, UNNAMED, UNTRAINED
from dtx.analysis.labels.trees import Term, Trees, opposite_of, predicted, sentence, term
from dtx.errors import UserError
from tests.analysis.labels_toy import silent, spec, world


@pytest.fixture(scope="module")
def toy():
    return world()


@pytest.fixture(scope="module")
def empty(toy):
    """Untrained networks whose features are nonsense."""
    return [toy.nonsense(UNTRAINED, seed) for seed in range(3)]


def judged(toy, source, untrained, **changes):
    judge = Judge.of(spec(**changes), toy.facts, toy.columns, untrained)
    return judge.table(source, silent()).set_index("feature")


# --- trees ---


@pytest.mark.parametrize("seed", range(12))
def test_trees_are_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    values = rng.random((400, 12)) < rng.uniform(0.05, 0.9, 12)
    weight = rng.uniform(0.5, 3, 400)
    target = (values[:, 0] & values[:, 3]) ^ (rng.random(400) < 0.1)
    own = Trees(values, weight, 3).grown(np.flatnonzero(target))
    theirs = DecisionTreeClassifier(max_depth=3, min_weight_fraction_leaf=LEAF, random_state=0)
    theirs.fit(values, target, sample_weight=weight)
    tree = theirs.tree_
    leaves = tree.children_left == -1
    impurity = (tree.impurity * tree.weighted_n_node_samples)[leaves].sum()
    assert own.impurity() == pytest.approx(impurity, rel=1e-6)
    assert own.fact == tree.feature[0]


def test_a_tree_is_no_deeper_than_its_feature_asks_for(toy):
    trees = Trees(toy.facts.values, toy.columns["count"], 3)
    fact, both = toy.of("key at 0"), toy.of("key at 0") & toy.of("key at 1")
    noisy = fact ^ (toy.rng.random(len(fact)) < 0.03)
    for target, facts in ((fact, 1), (noisy, 1), (both, 2)):
        label = term(trees.fit(np.flatnonzero(target)))
        assert len(label.facts()) == facts


@pytest.mark.parametrize("seed", range(8))
def test_sentences_hold_where_their_trees_do(seed):
    rng = np.random.default_rng(seed)
    values = rng.random((300, 6)) < 0.5
    trees = Trees(values, np.ones(300), 3)
    target = values[:, 0] & (values[:, 1] | ~values[:, 2]) ^ (rng.random(300) < 0.2)
    tree = trees.fit(np.flatnonzero(target))
    np.testing.assert_array_equal(term(tree).holds(values), predicted(tree, values))


def test_sentences_are_read_as_a_person_writes_them(toy):
    names, values = toy.facts.names, toy.facts.values
    trees = Trees(values, toy.columns["count"], 3)

    def label(target: np.ndarray) -> str:
        return sentence(term(trees.fit(np.flatnonzero(target))), names)

    ball, high, key = toy.of("ball ahead"), toy.of("reward-to-go >= .45"), toy.of("key at 2")
    assert label(ball) == "ball ahead"
    assert label(~high) == "reward-to-go < .45"
    assert label(ball & ~high) in (
        "ball ahead and reward-to-go < .45", "reward-to-go < .45 and ball ahead",
    )  # fmt: skip
    assert set(label(ball | key).split(" or ")) == {"ball ahead", "key at 2"}
    found = label(key & (ball | high))
    assert set(found.replace("(", "").replace(")", "").split()) == {
        *["key", "at", "2", "and", "ball", "ahead", "or", "reward-to-go", ">=", ".45"]
    }
    assert "(" in found


@pytest.mark.parametrize(
    ("name", "opposite"),
    [
        ("reward-to-go >= .45", "reward-to-go < .45"),
        ("instruction = ball", "instruction is not ball"),
        ("ball ahead", "not (ball ahead)"),
        ("a = 1 and b = 2", "not (a = 1 and b = 2)"),
    ],
)
def test_opposites_of_facts(name, opposite):
    assert opposite_of(name) == opposite


def test_a_label_without_facts_says_so():
    assert sentence(Term("never"), []) == "never"
    assert Term("always").holds(np.zeros((2, 0), bool)).tolist() == [True, True]


# --- scores ---


def test_a_feature_that_is_always_on_has_the_f1_of_its_density(toy):
    judge = Judge.of(spec(), toy.facts, toy.columns, [toy.nonsense()] * 2)
    on = np.flatnonzero(toy.of("key at 0")[judge.score.rows])
    every = np.ones(len(judge.score.rows), bool)
    assert judge.score.f1(on, every) == pytest.approx(always_on(judge.score.density(on)))
    assert judge.score.balanced_accuracy(on, every) == pytest.approx(0.5)


def test_margins_are_zero_against_itself_and_cover_the_truth():
    """Two predictors of equal quality: the interval of the difference covers 0 in about 95 of 100."""
    from dtx.analysis.labels.scores import Half

    rng, covered = np.random.default_rng(0), 0
    for _ in range(200):
        rows = 600
        truth = rng.random(rows) < 0.3
        half = Half(np.arange(rows), np.ones(rows), np.zeros((rows, 0), bool), np.arange(rows) % 60)
        on = np.flatnonzero(truth)
        one, other = (half.with_influence(on, truth ^ (rng.random(rows) < 0.15)) for _ in range(2))
        _, low, high = margin(one, [other])
        covered += low <= 0 <= high
    assert 0.9 <= covered / 200 <= 0.99
    assert margin(one, [one]) == (0.0, 0.0, 0.0)
    better = F1(1.0, np.zeros(60))
    assert margin(better, [one, other])[0] == pytest.approx(1 - max(one.value, other.value))


# --- verdicts ---


def test_planted_features_get_their_own_names(toy, empty):
    wanted = ["key at 0", "key at 1", "key at 2 and key at 3", "key at 4 or key at 5"]
    key = [toy.of(f"key at {i}") for i in range(6)]
    planted = [key[0], key[1], key[2] & key[3], key[4] | key[5]]
    table = judged(toy, toy.source(planted, noise=0.01), empty)
    assert (table.verdict == NAMED).all()
    for label, name in zip(table.label, wanted, strict=True):
        word = " and " if " and " in name else " or "
        assert set(label.split(word)) == set(name.split(word))
    assert (table.f1 > 0.9).all() and (table.margin_low > 0.3).all()


def test_what_the_view_tells_is_input_only(toy, empty):
    one_fact = [toy.of("ball ahead"), toy.of("wall left") & toy.of("door open")]
    any_views = np.isin(toy.columns["view"], [1, 4, 5, 9, 11, 17])  # no fact says that
    table = judged(toy, toy.source([*one_fact, any_views]), empty)
    assert table.verdict[:2].tolist() == [INPUT_ONLY, INPUT_ONLY]
    assert (table.input_f1[:2] > 0.99).all() and table.input_by[0] in ("view", "whole input")
    assert table.verdict[2] != NAMED


def test_what_an_untrained_network_has_too_is_not_the_models(toy, empty):
    own = [toy.of("key at 0"), toy.of("key at 1")]
    theirs = [toy.source([toy.of("key at 0")], UNTRAINED, seed) for seed in range(3)]
    table = judged(toy, toy.source(own), theirs)
    assert table.verdict.tolist() == [INPUT_ONLY, NAMED]
    assert table.untrained_f1[0] == pytest.approx(1.0)


def test_an_untrained_network_is_not_held_against_itself(toy, empty):
    theirs = [*empty[:2], toy.source([toy.of("key at 0")], UNTRAINED, 2)]
    judge = Judge.of(spec(), toy.facts, toy.columns, theirs)
    assert judge.table(theirs[2], silent()).verdict.tolist() == [NAMED]
    for source in (*theirs, toy.source([toy.of("key at 0")], seed=5)):
        assert len(judge.others(source)) == 2


def test_shuffled_activations_get_no_names(toy, empty):
    planted = [toy.of(f"key at {i % 6}") & toy.of(toy.facts.names[6 + i % 4]) for i in range(24)]
    planted += [toy.of(f"key at {i}") for i in range(6)]
    own = toy.source(planted)
    assert (judged(toy, own, empty).verdict == NAMED).mean() > 0.5  # else there is nothing to lose
    table = judged(toy, shuffled(own, 1), empty)
    assert len(table) > 20 and (table.verdict == NAMED).mean() <= 0.05
    assert (table.above_always_on < 0.2).all()


def test_random_labels_of_views_are_never_beyond_the_input(toy, empty):
    own = toy.source([toy.of(f"key at {i}") for i in range(6)])
    made = per_view(own, toy.columns["view"].astype(int), toy.columns["count"].astype(float), 0)
    on = (made.active > 0).toarray()
    for column in on.T:  # the same at every row of a view
        assert len({(v, bool(o)) for v, o in zip(toy.columns["view"], column, strict=True)}) == 20
    share = np.average(on, axis=0, weights=toy.columns["count"])
    assert np.abs(share - 0.25).max() < 0.04
    assert not (judged(toy, made, empty).verdict == NAMED).any()


def test_features_that_are_hardly_ever_on_are_not_judged(toy, empty):
    rare = np.zeros(len(toy.facts.values), bool)
    rare[:9] = True
    one_episode = toy.columns["episode"] == 3
    table = judged(toy, toy.source([rare, one_episode, toy.of("key at 0")]), empty)
    assert table.index.tolist() == [2]


def test_nothing_of_noise_is_named(toy, empty):
    table = judged(toy, toy.nonsense(TRAINED, width=30), empty)
    assert (table.verdict == UNNAMED).all()


# --- the result ---


def planted_source(toy, seed: int, noise: float = 0.01):
    key = [toy.of(f"key at {i}") for i in range(6)]
    features = [*key, key[0] & key[1], toy.of("ball ahead"), toy.rng.random(len(key[0])) < 0.1]
    return toy.source(features, TRAINED, seed, noise)


def test_enough_seeds_establish_that_features_are_named(toy, empty):
    result = compute(
        spec(), toy.facts, toy.columns, [planted_source(toy, seed) for seed in range(4)], empty
    )
    assert result.established, list(result.reasons())
    assert result.metrics["named_share"] == pytest.approx(7 / 9, abs=0.01)
    assert result.metrics["named_share_untrained"] == 0
    assert result.metrics["named_share_shuffled"] == 0
    assert result.metrics["input_only_share"] == pytest.approx(1 / 9, abs=0.01)
    assert result.claim("features_named").verdict is Verdict.CONFIRMED
    names = result.tables["names"]
    assert names.seeds.max() == 4 and "key at 0" in names.label.tolist()
    sources = result.tables["sources"]
    assert len(sources) == 4 + 3 + 2 and (sources.live > 0).all()


def test_fewer_seeds_establish_nothing_whatever_they_show(toy, empty):
    one = compute(spec(), toy.facts, toy.columns, [planted_source(toy, 0)], empty)
    assert not one.established and "not measured" in next(iter(one.reasons()))
    assert one.metrics["named_share"] > 0.7 and one.metrics["named_share_low"] < 0.7
    three = compute(
        spec(), toy.facts, toy.columns, [planted_source(toy, s) for s in range(3)], empty
    )
    assert any("fewer than 4" in reason for reason in three.reasons())


def test_an_untrained_network_that_does_as_well_takes_the_claim_away(toy):
    theirs = []
    for seed in range(3):  # each names other facts, so that none is held against the same
        pair = [toy.of(f"key at {2 * seed}"), toy.of(f"key at {2 * seed + 1}")]
        theirs.append(toy.source(pair, UNTRAINED, seed))
    own = [toy.source([toy.of("key at 0")], TRAINED, s, 0.02) for s in range(4)]
    result = compute(spec(), toy.facts, toy.columns, own, theirs)
    assert not result.established
    assert result.claim("features_named").verdict is Verdict.NOT_ESTABLISHED
    assert result.metrics["named_share_untrained"] == 1


def test_the_checks_fail_for_another_instrument(toy, empty, monkeypatch):
    import dtx.analysis.labels.compute as module

    real = module.predicted
    monkeypatch.setattr(module, "predicted", lambda tree, values: ~real(tree, values))
    result = compute(spec(), toy.facts, toy.columns, [planted_source(toy, 0)], empty)
    assert [check.holds for check in result.checks] == [False, False]


def test_what_cannot_be_labelled_is_said(toy, empty):
    nothing = toy.facts.__class__([], np.zeros((3000, 0), bool), [], toy.facts.raw)
    with pytest.raises(UserError, match="no fact is true"):
        compute(spec(), nothing, toy.columns, [planted_source(toy, 0)], empty)
    dead = toy.source([np.zeros(3000, bool)] * 3)
    with pytest.raises(UserError, match="no feature is on often enough"):
        compute(spec(), toy.facts, toy.columns, [dead], empty)
