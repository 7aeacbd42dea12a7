"""Dictionaries of a planted model whose features are known, and of tiny ones of which nothing is."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch

from dtx.activations.stored import Part
from dtx.analysis.core.result import Result, Verdict
from dtx.analysis.dictionaries import DictionariesAnalysis
from dtx.analysis.dictionaries.candidates import Network, at_mean
from dtx.analysis.dictionaries.claims import judge
from dtx.analysis.dictionaries.compute import compute
from dtx.analysis.dictionaries.groups import grouped, smallest
from dtx.analysis.dictionaries.measure import Policy, Rows, States, reconstruct
from dtx.analysis.dictionaries.numbers import gap, kept, measurable, over_seeds
from dtx.analysis.dictionaries.play import differing
from dtx.analysis.dictionaries.plots import draw, page
from dtx.analysis.dictionaries.spec import (
    EXPLAINED,
    FLIPS,
    FROZEN,
    IDENTITY,
    KEPT,
    KL,
    MEAN,
    PCA,
    RANDOM,
    RECOVERED,
    TRAINED,
)
from dtx.config.compose import build_group
from dtx.dictionary import controls, trained
from dtx.dictionary.autoencoder import SparseAutoencoder
from dtx.dictionary.sae_files import write
from dtx.dictionary.spec import How
from dtx.estimate import Estimate
from dtx.report import Report
from dtx.store.store import Store, used
from tests.activations.toy import fresh
from tests.activations.toy import stage as tiny_activations
from tests.dictionary.test_controls import COUNT, X
from tests.dictionary.toy import stage as random_dictionary
from tests.dictionary.training import make
from tests.legible import problems

HOOK = "blocks.1.hook_resid_post"


def settings(env, dt=None, **changes) -> DictionariesAnalysis:
    """The analysis with few samples, of random dictionaries of a tiny model."""
    dt = dt or fresh()
    built = build_group("analysis/dictionaries", [])
    few = {"episodes": 60, "control_episodes": 8, "windows": 24, "components": (1, 4), "kept": 0.8}
    dictionary = random_dictionary(activations=tiny_activations(dt=dt), seeds=(0, 1))
    return dataclasses.replace(built, env=env, dt=dt, dictionary=dictionary, **{**few, **changes})


def dictionaries(folder, parts: dict[tuple[float, int, How], SparseAutoencoder]):
    """An artefact of dictionaries, by sparsity, seed and what was trained."""
    lines = []
    for (sparsity, seed, how), sae in parts.items():
        width = len(sae.weights["W_dec"])
        name = trained.name_of(HOOK, width, sparsity, seed, how.value)
        write(sae, folder / name)
        lines.append((name, HOOK, width, sparsity, seed, how.value))
    Report(folder).table(trained.TABLE, pd.DataFrame(lines, columns=list(trained.COLUMNS)))
    return trained.Dictionaries(folder)


# --- a planted truth -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted(rollouts, tmp_path_factory):
    """A compiled model's own features as dictionaries: all of them, or all but what the turn is made of."""
    dt = build_group("dt/planted")
    built = build_group("activations/windows", ["activations.numbers=float32"])
    what = dataclasses.replace(built, dt=dt, dataset=rollouts, episodes=100)
    folder = tmp_path_factory.mktemp("planted")
    store = Store(folder / "store")
    with used(store):
        make(store, what)
        model, stored, episodes = dt.load(), what.load(), rollouts.load()
    return model, stored, episodes, folder


def judged(env, planted, name: str, saes: dict, **changes) -> Result:
    model, stored, episodes, folder = planted
    d = stored.hooks[HOOK]
    own = dictionaries(folder / name, saes)
    mean_d = next(iter(saes.values())).weights["b_dec"]
    frozen = controls.random(d, 2 * d, 3, 5, mean_d, hook=HOOK)
    held_back = dictionaries(folder / f"{name}_held", {(3.0, 0, How.frozen_decoder): frozen})
    network = Network(model, stored, own)
    return compute(settings(env, **changes), network, held_back, [], env, episodes, "prefix")


def features_of(planted, without: tuple[int, ...] = ()) -> SparseAutoencoder:
    """The bare dimensions, along which the plain planted model's features lie, but for some."""
    _, stored, _, _ = planted
    rows = Rows.of(stored, HOOK, "prefix", Part.TRAIN)
    kept = [i for i in range(rows.x_rd.shape[1]) if i not in without]
    mean_d = torch.zeros(rows.x_rd.shape[1])
    both = torch.cat([torch.eye(len(mean_d))[kept], -torch.eye(len(mean_d))[kept]])
    weights = {"W_enc": both.T.contiguous(), "W_dec": both, "b_dec": mean_d}
    return SparseAutoencoder("standard", {**weights, "b_enc": torch.zeros(len(both))}, HOOK)


@pytest.fixture(scope="module")
def known(env, planted) -> Result:
    seeds = {(3.0, seed, How.trained): features_of(planted) for seed in range(4)}
    return judged(env, planted, "all", seeds)


def rows_of(result: Result, kind: str, measure: str, target: float = math.nan) -> pd.DataFrame:
    table = result.tables["numbers"]
    table = table[(table["kind"] == kind) & (table["measure"] == measure)]
    return table if math.isnan(target) else table[table["target"] == target]


def test_what_must_hold_exactly_holds(known):
    assert all(check.holds for check in known.checks) and len(known.checks) == 4
    for kind, value in ((IDENTITY, 1.0), (MEAN, 0.0)):
        for measure, target in ((EXPLAINED, math.nan), (RECOVERED, math.nan), (KEPT, 0.9)):
            found = rows_of(known, kind, measure, target)["value"].item()
            assert found == pytest.approx(value, abs=1e-6)
    assert rows_of(known, IDENTITY, KL)["value"].item() == 0
    assert (rows_of(known, IDENTITY, FLIPS)["value"] == 0).all()


def test_the_planted_features_keep_the_return_and_random_directions_do_not(known):
    assert known.established
    assert known.metrics["return_kept_high"] == pytest.approx(1)
    assert known.metrics["explained_variance"] == pytest.approx(1, abs=1e-6)
    assert known.claim("few_features_keep_the_return").verdict is Verdict.CONFIRMED
    random = rows_of(known, RANDOM, KEPT, 0.9)
    assert (random["high"] < 0.8).all()
    # One component is enough in this model: the claim that features are fewer must not come out.
    assert known.metrics["l0_for_95_components"] == 1
    assert known.claim("sparser_than_components").verdict is Verdict.NOT_CONFIRMED
    assert known.metrics["l0_for_95"] == known.metrics["l0"]
    assert known.metrics["l0_for_95_random"] is None


def test_without_the_features_that_decide_the_return_is_lost_whatever_is_explained(
    env, planted, known
):
    """Explained variance does not see it: what decides varies little over all tokens."""
    model = planted[0]
    decides = [int(i) for i in model.W_U.std(1).argsort(descending=True)[:2]]
    seeds = {(3.0, s, How.trained): features_of(planted, tuple(decides)) for s in range(4)}
    lost = judged(env, planted, "lost", seeds, components=(1,), episodes=30)
    assert all(check.holds for check in lost.checks)
    assert lost.metrics["return_kept_high"] < 0.5 < lost.metrics["explained_variance"]
    assert lost.metrics["l0_for_95"] is None
    claim = lost.claim("few_features_keep_the_return")
    assert claim.verdict in (Verdict.NOT_CONFIRMED, Verdict.NOT_ESTABLISHED)


def test_one_seed_says_nothing_of_the_model(env, known):
    numbers = known.tables["numbers"]
    numbers = numbers[(numbers["kind"] != TRAINED) | (numbers["seed"] == 0)]
    tables = {**known.tables, "numbers": numbers, "groups": grouped(numbers)}
    one = judge(settings(env), tables, known.checks, 1)
    claim = one.claim("few_features_keep_the_return")
    assert claim.verdict is Verdict.NOT_DECIDED and "1 seeds, fewer than 4" in claim.evidence
    groups = one.tables["groups"]
    assert (groups[groups["kind"] == TRAINED]["seeds"] == 1).all()


def test_figures_can_be_read(env, known):
    spec = settings(env)
    figure = draw(known, spec, HOOK)
    assert not problems(figure)
    assert "random directions none of those tried" in figure.texts[0].get_text()
    shown = page(known, spec)
    names = {trace.name for trace in shown.data if trace.showlegend}
    assert {TRAINED, PCA, RANDOM, FROZEN} <= names


# --- whole stages ---------------------------------------------------------------------------------------


def test_untrained_networks_have_their_own_dictionaries_and_nothing_is_established(env, tmp_path):
    """Tiny random models: mean ablation costs no return, so no share of it is kept."""
    short = dataclasses.replace(env, max_steps=8)
    stage = settings(short, episodes=8, control_episodes=4, windows=8, components=(2,))
    store = Store(tmp_path / "store")
    with used(store):
        make(store, stage)
        result, headline = stage.result(), stage.headline_metrics()
    assert not result.established and all(check.holds for check in result.checks)
    numbers = result.tables["numbers"]
    own = numbers[numbers["kind"] == "untrained network's own"]
    assert sorted(own["seed"].unique()) == [0, 1, 2]
    assert own[own["measure"] == EXPLAINED]["value"].nunique() == 3
    assert headline["dictionaries/explained_variance_untrained"] is not None
    assert headline["dictionaries/return_kept_high"] is None
    for claim in result.claims:
        assert claim.verdict in (Verdict.NOT_APPLICABLE, Verdict.NOT_ESTABLISHED)
    made = stage.derived()
    assert made["untrained_1"].activations.key == made["untrained_1_activations"].key
    assert made["untrained_1"].activations.dt.key == made["untrained_1_network"].key


# --- parts ----------------------------------------------------------------------------------------------


def test_explained_variance_is_no_mean_of_ratios_and_rows_count_as_often_as_they_occur():
    rows = Rows(X, COUNT.astype(float), np.arange(len(X)))
    sae = controls.random(16, 40, 4, 0, torch.from_numpy(rows.mean_d.astype(np.float32)))
    found = reconstruct(sae, rows)
    back = sae.reconstruct(torch.from_numpy(X)).double().numpy()
    error_r, away_r = np.square(back - X).sum(1), np.square(X - rows.mean_d).sum(1)
    long = np.repeat(np.arange(len(X)), COUNT)
    wanted = 1 - error_r[long].sum() / away_r[long].sum()
    assert found.explained.value == pytest.approx(wanted, abs=1e-9)
    assert abs(found.explained.value - (1 - (error_r / away_r)[long].mean())) > 0.003
    on = (sae.encode(torch.from_numpy(X)) > 0).numpy()[long]
    assert found.l0 == pytest.approx(on.sum(1).mean())
    np.testing.assert_allclose(found.density_f, on.mean(0))
    assert found.explained.low < wanted < found.explained.high


def test_kl_is_of_the_model_to_the_edited_one_and_counts_episodes_once():
    model_sa = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.5, 0.0]], dtype=torch.float64)
    edited_sa = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 0.5]], dtype=torch.float64)
    policy = Policy.of(model_sa, edited_sa)
    p = torch.softmax(model_sa[0], 0)
    assert policy.kl_s[0] == pytest.approx(float((p * (p / 0.5).log()).sum()))
    assert policy.kl_s[1] == 0 and policy.same_s.tolist() == [True, True, False]
    numbers = dict(policy.numbers(policy, np.array([0, 0, 1])))
    assert numbers[KL].value == pytest.approx(policy.kl_s.mean()) and numbers[KL].n == 2
    assert numbers[RECOVERED].value == 0


def test_windows_hold_every_step_of_episodes_that_were_not_trained_on(planted):
    model, _, episodes, _ = planted
    states = States.of(episodes, model, 8, 0)
    held = set(np.asarray(episodes.start)[np.asarray(episodes.split) == 1].tolist())
    assert set(states.episode_s.tolist()) <= held
    assert len(states.logits(model)) == len(states.episode_s)
    with torch.no_grad():
        context, real = states.parts[0]
        torch.testing.assert_close(
            states.logits(model)[: real.sum()], model(context)[real].double()
        )


def test_return_kept_is_one_for_the_model_and_none_for_its_mean():
    rng = np.random.default_rng(0)
    model_e, mean_e = (rng.random(400) < 0.9).astype(float), (rng.random(400) < 0.1).astype(float)
    one, nothing = kept(model_e, model_e, mean_e, 1), kept(mean_e, model_e, mean_e, 1)
    assert one.value == 1 and nothing.value == pytest.approx(0)
    # All episodes ended alike: the next need not.
    assert 0.97 < one.low < 1 < one.high < 1.03 and one.n == 400
    half_e = np.where(np.arange(400) % 2, model_e, mean_e)
    half = kept(half_e, model_e, mean_e, 1)
    wanted = (half_e.mean() - mean_e.mean()) / (model_e.mean() - mean_e.mean())
    assert half.value == pytest.approx(wanted) and half.low < wanted < half.high


def test_a_return_that_the_mean_has_too_cannot_be_kept():
    ones = np.ones(50)
    assert math.isnan(kept(ones, ones, ones, 1).value)
    noise_e, other_e = np.random.default_rng(1).random((2, 50))
    assert not measurable(gap(noise_e, other_e, 1))
    assert measurable(gap(np.zeros(50), ones, 1))  # mean ablation may also raise it: asked for 0


@pytest.mark.slow
def test_the_interval_of_the_return_kept_covers_the_truth():
    rng, hits, true = np.random.default_rng(0), 0, (0.8 - 0.1) / (0.9 - 0.1)
    for _ in range(200):
        u_e = rng.random(300)
        found = kept(*((u_e < p).astype(float) for p in (0.8, 0.9, 0.1)), 1)
        hits += found.low <= true <= found.high
    assert hits >= 186


def test_seeds_are_clusters_and_episodes_stay_uncertain():
    each = [Estimate(v, v - 0.1, v + 0.1, 400, "episodes") for v in (0.5, 0.6, 0.7, 0.8)]
    all_four = over_seeds(each)
    assert all_four.value == pytest.approx(0.65) and all_four.n == 4
    spread = 3.182 * np.std([0.5, 0.6, 0.7, 0.8], ddof=1) / 2
    assert all_four.high - 0.65 == pytest.approx(math.hypot(0.1, spread), rel=1e-3)
    same = over_seeds([each[0]] * 4)
    assert same.high - same.value == pytest.approx(0.1)  # the same episodes are no more of them
    assert over_seeds(each[:1]) is each[0]
    missing = Estimate(math.nan, math.nan, math.nan, 0, "not measured")
    assert math.isnan(over_seeds([each[0], missing]).value)


def test_the_smallest_l0_is_one_that_is_known_to_keep_the_return():
    lines = [
        (TRAINED, 1024, 4.0, 4.0, 0.9, 0.8, 1.0),
        (TRAINED, 1024, 8.0, 7.5, 0.99, 0.96, 1.02),
        (TRAINED, 1024, 16.0, 15.0, 1.0, 0.97, 1.03),
        (RANDOM, 1024, 16.0, 16.0, 0.2, 0.1, 0.3),
        (PCA, 4, 4.0, 4.0, 0.5, 0.4, 0.6),
        (PCA, 16, 16.0, 16.0, 0.96, 0.94, 0.98),
        (MEAN, 0, 0.0, 0.0, 1.0, 1.0, 1.0),
    ]
    names = ["kind", "width", "sparsity", "l0", "value", "low", "high"]
    groups = pd.DataFrame(lines, columns=names).assign(
        hook=HOOK, measure=KEPT, target=0.9, n=4, interval="t"
    )
    found = smallest(groups, 0.9, 0.95).set_index("kind")
    assert found["l0"].to_dict() == {TRAINED: 7.5, RANDOM: pytest.approx(math.nan, nan_ok=True),
                                     PCA: pytest.approx(math.nan, nan_ok=True)}  # fmt: skip
    assert found["decided"].to_dict() == {TRAINED: True, RANDOM: True, PCA: False}


def test_episodes_that_differ_in_one_action_are_seen(env, planted):
    model, stored, _, _ = planted
    spec = settings(env)
    zero = at_mean(model, HOOK, torch.zeros(stored.hooks[HOOK]))
    assert differing(spec, model, env, 8, None, None) == 0
    assert differing(spec, model, env, 8, None, zero) == 1


# --- bad input ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"checkpoint": 6}, "checkpoint", "is 6, but the dictionary's activations are of None"),
        ({"high": 0.5}, "high", "0.5 must be one of the targets"),
        ({"low": 0.9, "high": 0.9}, "high", "must be above the low target"),
        ({"components": (4, 4)}, "components", "names 4 twice"),
        ({"targets": (0.0, 0.9, 0.9)}, "targets", "names 0.9 twice"),
    ],
)
def test_settings_that_do_not_fit_are_refused(env, changes, field, words):
    found = dict(settings(env, **changes).check())
    assert words in found[field] and "\n" not in found[field]


def test_dictionaries_of_another_model_are_refused_by_name(env):
    stage = settings(env)
    other = dataclasses.replace(stage, dt=fresh(factor=2.0))
    assert "is of the activations of" in dict(other.check())["dictionary"]
    assert other.dt.label in dict(other.check())["dictionary"]
    only = dataclasses.replace(stage.dictionary, how=(How.frozen_decoder,))
    without = dataclasses.replace(stage, dictionary=only)
    assert "add trained to dictionary.how" in dict(without.check())["dictionary"]
    assert not dict(stage.check())


def test_what_it_needs_grows_with_what_it_plays(env):
    less, more = (settings(env, episodes=n).resources().seconds for n in (100, 10_000))
    assert more > 10 * less > 0
