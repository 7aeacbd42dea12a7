"""Edits of features in a batch, the choice of features and of those beside them, and the whole."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from dtx.analysis.feature_effects import FeatureEffects
from dtx.analysis.feature_effects.circuit import ERROR, OTHERS
from dtx.analysis.feature_effects.compute import Given, compute
from dtx.analysis.feature_effects.dictionary import Activity, Directions, matched
from dtx.analysis.feature_effects.examine import Chosen, Effects, choose, margin, strongest
from dtx.analysis.feature_effects.identities import identities
from dtx.analysis.feature_effects.measure import ADD, CLAMP, Edited, FeatureEdit, estimated
from dtx.analysis.feature_effects.sites import Site, SiteRuns
from dtx.analysis.feature_effects.spec import (
    CHOSEN,
    KL,
    NATURAL,
    OFF,
    ON,
    PARTS,
    SAME_SIZE,
    place_of,
)
from dtx.analysis.feature_effects.windows import episode_windows, of_episodes, pair_windows
from dtx.config.compose import build_group
from dtx.dataset.episodes import Split
from dtx.dictionary.autoencoder import SparseAutoencoder
from dtx.errors import UserError
from tests.dt.toy import episodes as random_episodes
from tests.pairs.build import declared, made, model

HOOK = "blocks.1.hook_resid_post"
NEURONS = "blocks.1.mlp.hook_post"
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return made(declared("memory", dataset=None), tmp_path_factory.mktemp("pairs") / "p")


def random(width: int, hook=HOOK, seed=0, features=40, **changes) -> SparseAutoencoder:
    """A TopK dictionary of random directions."""
    generator = torch.Generator().manual_seed(seed)
    decoder = torch.randn(features, width, generator=generator)
    bias = torch.randn(width, generator=generator) / 9
    weights = {"W_enc": decoder.T.contiguous(), "W_dec": decoder, "b_dec": bias}
    weights["b_enc"] = torch.zeros(features)
    return SparseAutoencoder("topk", weights, hook, k=4, **changes)


def edited_of(network, sae, count=6) -> Edited:
    drawn = of_episodes(random_episodes(), network, Split.VALIDATION, count, 0)
    return Edited(episode_windows(network, Site.of(sae.hook_name), drawn), Directions(sae), 16)


# Any model: batches of edits against the dictionary that is spliced in.


@pytest.mark.parametrize("part", PARTS)
def test_edits_at_any_activation_are_those_of_hooks(part, pairs):
    network, hook = model(), f"blocks.1.{part}"
    (batch,) = pairs.batches(network)
    for last_only in (True, False):
        runs = SiteRuns(network, batch.clean[:3], Site.of(hook), last_only=last_only)
        added = 0.3 * torch.randn(
            2, *runs.x_bnd.shape[1:], generator=torch.Generator().manual_seed(0)
        )
        got = runs.edited(torch.tensor([2, 0]), added)

        def put(value, hook=None, added=added):
            return value + added.reshape(value.shape)

        with torch.no_grad(), network.hooks(fwd_hooks=[(hook, put)]):
            whole = network(batch.clean[torch.tensor([2, 0])])
        assert torch.allclose(got, whole[:, -1] if last_only else whole, atol=TOLERANCE)


@pytest.mark.parametrize("changes", [{}, {"normalize_activations": "layer_norm"}])
def test_identities_hold_for_any_dictionary(changes):
    network, sae = model(), random(16, **changes)
    edited = edited_of(network, sae)
    chosen = Chosen(
        [0, 5], [np.array([1]), np.array([2])], {0: 1.0, 5: 0.5, 1: 0.2, 2: 0.3}, pd.DataFrame()
    )
    errors = identities(network, sae, Directions(sae), chosen, edited)
    assert len(errors) == 4 and max(errors.values()) < TOLERANCE


def test_an_identity_notices_what_it_is_about():
    """A dictionary whose directions are read wrongly fails the comparison with the spliced one."""
    network, sae = model(), random(16)
    edited = edited_of(network, sae)
    edited.directions.unit_fd = -edited.directions.unit_fd
    chosen = Chosen([0], [np.array([1])], {0: 1.0, 1: 0.2}, pd.DataFrame())
    errors = identities(network, sae, edited.directions, chosen, edited)
    assert max(errors.values()) > 1e-3


def test_sides_change_what_they_say():
    old = torch.tensor([0.0, 2.0])
    new = {s: FeatureEdit(0, s, 0.5).new(old).tolist() for s in (OFF, ON, CLAMP, ADD)}
    assert new == {OFF: [0, 0], ON: [0.5, 2], CLAMP: [0.5, 0.5], ADD: [0.5, 2.5]}


def test_a_random_edit_of_the_same_size_is_as_large_along_another_direction():
    network, sae = model(), random(16)
    edited = edited_of(network, sae)
    feature = next(f for f in range(40) if edited.where(f) > 0.05)
    own, other = FeatureEdit(feature, OFF), FeatureEdit(feature, OFF, along=(feature + 1) % 40)
    assert (
        torch.equal(edited.change(0, own), edited.change(0, other)) and other.direction != feature
    )
    batch = edited.effects([own, other, FeatureEdit(feature, ADD, 0.0)])
    assert batch.shape == (3, 6) and (batch[2] == 0).all() and (batch[:2].max(1) > 0).all()
    assert not np.allclose(batch[0], batch[1])
    # One by one and in other batches the same.
    edited.at_once = 1
    assert np.allclose(edited.effects([other]), batch[1], atol=1e-6)


def test_the_estimate_is_the_kl_of_small_changes():
    network, sae = model(), random(16)
    sae.weights["W_dec"].mul_(1e-2)
    edited = edited_of(network, sae, 4)
    windows, value, scale = edited.windows[0], edited.value[0], edited.scale[0]
    guess = estimated(windows, value, scale, edited.directions, 0, draws=400)
    real = windows.real_bn[:, network.cfg.layout.states].sum(1).numpy()
    features = guess.argsort(descending=True)[:5].tolist()
    exact = edited.effects([FeatureEdit(f, OFF) for f in features])[:, : len(real)]
    assert np.allclose((exact * real).sum(1), guess[features], rtol=0.2)


# Choosing, and what is beside.


def test_activity_counts_rows_as_often_as_they_occur():
    eye, zero = torch.eye(8), torch.zeros(8)
    weights = {"W_enc": eye, "W_dec": eye, "b_dec": zero, "b_enc": zero}
    sae = SparseAutoencoder("standard", weights, HOOK)
    x = np.zeros((3, 8), np.float32)
    x[0, 2], x[1, 2], x[2, 3] = 1.0, 3.0, 5.0
    found = Activity.of(Directions(sae), x, np.array([1, 2, 1]))
    assert (
        found.density_f[2] == 0.75 and found.density_f[3] == 0.25 and found.live.tolist() == [2, 3]
    )
    assert found.size_f[2] == pytest.approx(7 / 3) and found.size_f[0] == 0
    assert [found.quantile(2, share) for share in (0.1, 0.5, 1.0)] == [1.0, 3.0, 3.0]
    assert found.quantile(0, 0.5) == 0.0


def test_matched_features_are_alive_and_alike():
    density = np.array([0.1, 0.11, 0.1, 0.9, 0.001, 0.0, 0.1])
    activity = Activity(density, np.ones(7), torch.zeros(1, 7), np.ones(1))
    rng = np.random.default_rng(0)
    assert matched(activity, 0, np.array([0, 6]), 2, 1, rng).tolist() == [1, 2]
    assert matched(activity, 0, np.array([0, 6]), 20, 3, rng).tolist() == [1, 2, 3, 4]  # 5 is dead
    assert len(matched(activity, 0, np.arange(7), 2, 1, rng)) == 0


def test_the_chosen_features_are_those_with_the_largest_effect():
    network, sae = model(), random(16)
    edited = edited_of(network, sae)
    x = torch.cat([w.runs.x_bnd.flatten(0, 1) for w in edited.windows]).numpy()
    activity = Activity.of(edited.directions, x, np.ones(len(x)))
    spec = SimpleNamespace(features=3, controls=20, seed=0, usual=0.5)
    chosen = choose(spec, edited, edited.directions, activity)
    exact = edited.effects([FeatureEdit(f, OFF) for f in range(40)]).mean(1)
    assert chosen.features == np.argsort(-exact, kind="stable")[:3].tolist()
    assert all(not set(some) & set(chosen.features) for some in chosen.beside)
    assert len(chosen.all_edits(range(3))) == len(set(chosen.all_edits(range(3))))


def toy_effects(own: float, natural: float, same_size: float) -> tuple[Effects, Chosen]:
    chosen = Chosen([0], [np.arange(1, 21)], dict.fromkeys(range(21), 1.0), pd.DataFrame())
    effects = Effects(KL, "episodes", np.arange(6))
    wobble = 1 + 0.01 * np.arange(6)
    for kind, size in ((CHOSEN, own), (NATURAL, natural), (SAME_SIZE, same_size)):
        edits = chosen.edits(0, OFF, kind)
        shares = np.linspace(0.1, 1, len(edits)) if kind != CHOSEN else np.ones(1)
        effects.add(edits, -size * shares[:, None] * wobble)
    return effects, chosen


@pytest.mark.parametrize(
    ("natural", "same_size", "share"), [(0.1, 0.2, 0.8), (0.5, 0.1, 0.5), (2.0, 0.1, -1.0)]
)
def test_the_margin_is_over_the_stronger_kind_of_random_features(natural, same_size, share):
    effects, chosen = toy_effects(1.0, natural, same_size)
    found = margin(effects, chosen, OFF)
    assert found is not None and found.share == pytest.approx(share)
    assert found.kinds_jc[SAME_SIZE].mean() == pytest.approx(1.025 * (1 - same_size))


def test_without_random_features_there_is_no_margin():
    effects, chosen = toy_effects(1.0, 0.1, 0.1)
    alone = dataclasses.replace(chosen, beside=[np.zeros(0, int)])
    assert margin(effects, alone, OFF) is None


def test_of_twenty_random_features_the_strongest_counts():
    size = np.arange(20.0)[:, None] * np.ones((1, 4))
    assert strongest(size).tolist() == [19.0] * 4


def test_pairs_are_read_once_a_run(pairs):
    network = model()
    windows, about = pair_windows(network, Site.of(HOOK), pairs.batches(network))
    assert about["run"].value_counts()["clean"] == 8 and len(about) == sum(
        len(w.runs) for w in windows
    )
    assert {"instruction_flip", "swap_targets", "rtg_zero"} <= set(about["run"])


# The whole, on a random model and dictionary.


class Stored:
    """Stored activations without files."""

    def __init__(self, x: np.ndarray):
        self.x, self.columns = x, {"count": np.ones(len(x), int)}

    def __len__(self) -> int:
        return len(self.x)

    def array(self, hook: str) -> np.ndarray:
        return self.x


def given(name: str, network, features: int, seeds=(0,)) -> Given:
    saes = {f"{HOOK}-{seed}": random(16, seed=seed, features=features) for seed in seeds}
    lines = [
        {
            "name": n,
            "hook": HOOK,
            "width": features,
            "sparsity": 4.0,
            "seed": seed,
            "how": "trained",
        }
        for seed, n in enumerate(saes)
    ]
    x = torch.cat(
        [w.runs.x_bnd.flatten(0, 1) for w in edited_of(network, saes[f"{HOOK}-0"]).windows]
    )
    dictionaries = SimpleNamespace(frame=pd.DataFrame(lines), __getitem__=saes.__getitem__)
    dictionaries = type(
        "Some", (), {"frame": pd.DataFrame(lines), "__getitem__": lambda self, n: saes[n]}
    )()
    return Given(name, network, dictionaries, Stored(x.numpy()))


@pytest.fixture(scope="module")
def spec():
    few = ["features=2", "windows=6", "quantiles=[0.5]", "played=1", "episodes=2", "circuit_features=3", "sets=[1,4]",
           "targets=[0.892]"]  # fmt: skip
    return build_group("analysis/feature_effects", [f"analysis.feature_effects.{o}" for o in few])


def test_the_whole_says_what_it_found(spec, pairs, env):
    network = model(n_timesteps=50)
    short = dataclasses.replace(env, max_steps=8)
    pairs = dataclasses.replace(pairs, about={**pairs.about, "min_ld_gap": 0.01})
    own, other = given("trained", network, 40), given("untrained_0", model(n_timesteps=50), 40)
    result = compute(spec, own, [other], pairs, random_episodes(), short)
    assert all(check.holds for check in result.checks) and len(result.checks) == 6
    assert {"off_kl_margin", "on_ld_margin", "off_return_margin", "features_area"} <= set(
        result.metrics
    )
    effects = result.tables["effects"]
    assert set(effects["model"]) == {"trained", "untrained_0"} and set(effects["side"]) == {OFF, ON}
    # The same network and dictionary as its own control has no margin beyond it.
    margins = result.metrics["off_kl_margin"], result.metrics["off_kl_margin_untrained"]
    assert margins[0] == pytest.approx(margins[1])
    # One dictionary tells nothing of dictionaries.
    assert "confirmed" not in [claim.verdict.value for claim in result.claims]
    table = result.tables["edges"]
    assert {OTHERS, ERROR} <= set(table["sender"]) and "logits" in set(table["receiver"])
    from matplotlib import pyplot

    from dtx.analysis.feature_effects.plots import draw
    from tests.legible import problems

    figure = draw(result)
    assert not problems(figure)
    pyplot.close(figure)


def test_with_too_few_features_nothing_is_established(spec, pairs, env):
    network = model(n_timesteps=50)
    short = dataclasses.replace(spec, played=0, features=4)
    result = compute(short, given("trained", network, 4), [], pairs, random_episodes(), env)
    assert not result.established and any("no live feature is left" in p for p in result.problems)


# Bad input.


def test_what_cannot_be_followed_is_told():
    assert place_of("blocks.1.hook_resid_post") == (1, "hook_resid_post")
    assert place_of("hook_embed") is None and place_of("blocks.1.ln1.hook_scale") is None
    with pytest.raises(UserError, match="hook_embed cannot be followed"):
        Site.of("hook_embed")


def test_a_transcoder_is_refused():
    with pytest.raises(UserError, match="use an autoencoder"):
        Directions(random(16, hook_out="blocks.1.hook_mlp_out"))


def problems_of(*overrides: str) -> dict[str, str]:
    from tests.pairs.build import ConfigError

    with pytest.raises(ConfigError) as error:
        build_group("analysis/feature_effects", list(overrides))
    return {place.rpartition(".")[2]: what for place, what in error.value.errors}


@pytest.mark.parametrize(
    ("overrides", "field", "words"),
    [
        (["analysis.feature_effects.played=9"], "played", "more than the 8 features"),
        (["analysis.feature_effects.sets=[1,1]"], "sets", "names a value twice"),
        (["analysis.feature_effects.controls=5"], "controls", "at least 20"),
        (["analysis.feature_effects.checkpoint=3"], "checkpoint", "is not"),
        (["activations.hooks=[hook_embed]"], "dictionary", "cannot be followed"),
        (["dictionary.how=[frozen_decoder]"], "dictionary", "needs trained"),
        (
            ["analysis.feature_effects.dt={_base_:${dt},seed:7}"],
            "dictionary",
            "is of activations of",
        ),
    ],
)
def test_settings_that_do_not_fit_are_told_before_anything_runs(overrides, field, words):
    assert words in problems_of(*overrides)[field]


def test_controls_are_dictionaries_of_untrained_networks():
    stage = build_group("analysis/feature_effects")
    assert isinstance(stage, FeatureEffects)
    inputs = stage.inputs()
    networks = {inputs[f"untrained_{i}"].activations.dt.key for i in range(3)}
    assert len(networks) == 3 and stage.dt.key not in networks
