import dataclasses
from functools import partial

import numpy as np
import pytest
import torch

from dtx.activations.spec import Numbers
from dtx.activations.stored import (
    COLUMNS,
    Activations,
    Part,
    file_of,
    write_about,
    write_tokens,
)
from dtx.config.compose import build_group
from dtx.dictionary.crosscoder import Crosscoder
from dtx.dictionary.crosscoder_files import read
from dtx.dictionary.joined import Crosscoding, Joined
from dtx.dictionary.networks.crosscoder import CrosscoderNetwork
from dtx.dictionary.spec import Split
from dtx.dictionary.training import train
from dtx.errors import UserError
from dtx.store.store import Store, used
from tests.activations.toy import fresh
from tests.activations.toy import stage as storing
from tests.dictionary.training import make

HOOKS = ("blocks.0.hook_resid_post", "blocks.1.mlp.hook_post")
SMALL = ["width=[24]", "k=[4]", "steps=60", "batch_size=64", "learning_rate=1e-2", "warm_up=5"]


def stage(*overrides, **changes) -> Crosscoder:
    built = build_group("dictionary/crosscoder", [f"dictionary.{w}" for w in (*SMALL, *overrides)])
    assert isinstance(built, Crosscoder)
    return dataclasses.replace(built, **{"activations": store_of(), **changes})


def store_of(seed=0, hooks=HOOKS, **changes):
    return storing(dt=fresh(seed=seed), hooks=hooks, other_windows=None, **changes)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with used(Store(tmp_path_factory.mktemp("crosscoders") / "store")) as store:
        yield store


def sources_of(what):
    """Held-out rows of all sources, and their counts."""
    loaded = [(each.load(), hook) for each in what.stores for hook in what.chosen]
    rows = loaded[0][0].rows("prefix", Part.HELD_OUT)
    x = [torch.from_numpy(np.asarray(s.array(hook)[rows], np.float32)) for s, hook in loaded]
    return x, torch.from_numpy(loaded[0][0].columns["count"][rows].astype(np.float32))


def explained(x, back, count):
    mean = (count @ x) / count.sum()
    error, deviation = (x - back).square().sum(1), (x - mean).square().sum(1)
    return 1 - (count @ error / (count @ deviation)).item()


@pytest.mark.parametrize("normalise", ["true", "false"])
def test_files_give_back_the_models_own_activations_and_the_table_says_how_well(shared, normalise):
    what = stage(f"normalise={normalise}")
    make(shared, what)
    found = what.load()
    (line,) = found.frame.itertuples()
    assert line.name == "crosscoder-24-4-0"
    crosscoder = found[line.name]
    assert [s.hook for s in crosscoder.sources] == list(HOOKS)
    assert {s.activations for s in crosscoder.sources} == {what.activations.label}
    x, count = sources_of(what)
    features, back = crosscoder.encode(x), crosscoder.reconstruct(x)
    own = [explained(one, other, count) for one, other in zip(x, back, strict=True)]
    assert line.explained_variance_0 == pytest.approx(own[0], abs=1e-4)
    assert line.explained_variance_1 == pytest.approx(own[1], abs=1e-4)
    scale = [16**0.5 / s.spread if normalise == "true" else 1.0 for s in crosscoder.sources]
    if normalise == "true":
        scale[1] *= (x[1].shape[1] / 16) ** 0.5
    joined, joined_back = (
        torch.cat([a * f for a, f in zip(y, scale, strict=True)], 1) for y in (x, back)
    )
    assert line.explained_variance == pytest.approx(explained(joined, joined_back, count), abs=1e-4)
    assert line.l0 == pytest.approx(
        (count @ (features > 0).float().sum(1) / count.sum()).item(), rel=1e-3
    )
    assert line.explained_variance > 0.3
    alive = (features > 0).any(0)
    share = (crosscoder.share().amax(0)[alive] >= 0.9).float().mean()
    assert line.exclusive == pytest.approx(share.item())


def test_the_same_model_twice_has_every_feature_in_both_alike(shared):
    """An exact identity; of two models with different weights directions have nothing in common."""
    same = stage("steps=60", hooks=HOOKS[:1], others=(store_of(),))
    other = stage("steps=60", hooks=HOOKS[:1], others=(store_of(seed=5),))
    make(shared, same, other)
    (line,) = same.load().frame.itertuples()
    assert line.exclusive == 0
    assert line.explained_variance_0 == pytest.approx(line.explained_variance_1, abs=1e-6)
    one, two = (what.load()["crosscoder-24-4-0"] for what in (same, other))
    torch.testing.assert_close(one.share(), torch.full((2, 24), 0.5), rtol=0, atol=1e-5)
    torch.testing.assert_close(one.similarity(), torch.ones(24), rtol=0, atol=1e-5)
    assert (two.share() - 0.5).abs().max() > 0.02 and two.similarity().mean() < 0.9


def planted(folder, rng, own: np.ndarray, hook="blocks.0.hook_resid_post"):
    """Stored activations of given features along random directions."""
    directions = rng.normal(size=(own.shape[1], 24))
    x = own @ (directions / np.linalg.norm(directions, axis=1, keepdims=True))
    folder.mkdir()
    x.astype("<f4").tofile(file_of(folder, hook, Numbers.float32))
    columns = {name: np.zeros(len(own), kind) for name, kind in COLUMNS.items()}
    columns |= {"count": np.ones(len(own), np.int32), "prefix": np.arange(len(own))}
    columns["by_prefix"] = (np.arange(len(own)) % 4 == 0).astype(np.int8)
    write_tokens(folder, columns)
    write_about(folder, len(own), {hook: 24}, Numbers.float32)
    return Activations(folder), directions


def test_planted_features_of_one_model_alone_are_told_from_shared_ones(tmp_path):
    """12 features: four in both models, four in each alone. And all in both: then none is told apart."""
    rng = np.random.default_rng(0)
    features = (rng.random((4000, 12)) < 0.08) * rng.uniform(0.5, 1.5, (4000, 12))
    some = [np.arange(12) < 8, (np.arange(12) < 4) | (np.arange(12) >= 8)]
    for name, present in (("some", some), ("all", [np.ones(12, bool)] * 2)):
        (folder := tmp_path / name).mkdir()
        made = [planted(folder / str(i), rng, features * on) for i, on in enumerate(present)]
        stores = [(str(i), stored) for i, (stored, _) in enumerate(made)]
        joined = Joined(stores, HOOKS[:1], Split.prefix, True)
        words = ("width=[24]", "k=[1]", "steps=400")
        what = stage(*words, hooks=HOOKS[:1], others=(store_of(seed=5),))
        train(what, partial(CrosscoderNetwork, widths=[24, 24]), folder, Crosscoding(joined))
        found = read(folder / "crosscoder-24-1-0")
        share = found.share().numpy()
        for s, ((_, directions), on) in enumerate(zip(made, present, strict=True)):
            norm = np.linalg.norm(directions[on], axis=1)
            long = found.weights[f"W_dec.{s}"].numpy() * (share[s] > 0.1)[:, None]
            cosine = long @ directions[on].T / norm / (np.linalg.norm(long, axis=1)[:, None] + 1e-9)
            assert cosine.max(0).min() > 0.9  # each is found
            alone = ~(present[0] & present[1])[on]
            shares = share[s][cosine.argmax(0)]
            assert (shares[alone] > 0.85).all() and (np.abs(shares[~alone] - 0.5) < 0.1).all()


def test_sources_of_several_models_are_told_apart_by_their_stores(shared):
    what = stage("steps=4", hooks=HOOKS[:1], others=(store_of(seed=5),))
    make(shared, what)
    (name,) = what.load()
    labels = [source.activations for source in what.load()[name].sources]
    assert labels == [each.label for each in what.stores] and len(set(labels)) == 2


def test_untrained_twins_are_different_networks(shared):
    what = stage("steps=2", hooks=HOOKS[:1], others=(store_of(seed=5),)).of_untrained(0)
    make(shared, what)
    one, other = (each.load().array(HOOKS[0]) for each in what.stores)
    assert one.shape == other.shape and np.abs(np.asarray(one) - np.asarray(other)).max() > 0.1


def test_joined_rows_stand_beside_each_other(shared):
    one, other = store_of(), store_of(seed=5)
    make(shared, one, other)
    joined = Joined([("a", one.load()), ("b", other.load())], HOOKS[:1], Split.prefix, False)
    x, rows = joined.block("crosscoder", 0)
    assert joined.hooks == {"crosscoder": 32} and rows.tolist() == list(range(len(x)))
    for part, each in zip(np.split(x, 2, axis=1), (one, other), strict=True):
        own = np.asarray(each.load().array(HOOKS[0])[: len(x)], np.float32)
        np.testing.assert_allclose(part - part[0], own - own[0], atol=1e-5)
    scaled = Joined([("a", one.load()), ("b", other.load())], HOOKS[:1], Split.prefix, True)
    trained = one.load().rows("prefix", Part.TRAIN)
    count = one.load().columns["count"][trained].astype(float)
    x = np.concatenate([scaled.block("crosscoder", n)[0] for n in range(scaled.blocks)])
    for part in np.split(x[trained], 2, axis=1):
        assert (count @ (part**2).sum(1)) / count.sum() == pytest.approx(16, rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"hooks": HOOKS[:1]}, "hooks", "a crosscoder reads several"),
        ({"k": (30,)}, "k", "30 features a token of 24"),
        (
            {"others": (store_of(hooks=HOOKS[:1]),)},
            "others[0]",
            "blocks.1.mlp.hook_post is not stored there",
        ),
        (
            {"others": (store_of(seed=3), store_of(episodes=5))},
            "others[1]",
            "has episodes=5, activations None",
        ),
    ],
)
def test_what_does_not_fit_is_told_before_anything_runs(changes, field, message):
    problems = list(stage(**changes).check())
    assert any(place == field and message in what for place, what in problems), problems


def test_models_that_read_other_windows_are_told_of(shared):
    clone = storing(dt=fresh("dt.reward_to_go=false"), hooks=HOOKS, other_windows=None)
    what = stage("steps=2", others=(clone,))
    with pytest.raises(
        UserError, match=r"has not the rows of windows-.*the same windows in the same order"
    ):
        make(shared, what)
