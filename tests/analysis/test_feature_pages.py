"""The page of features: its numbers are those of the dictionary, and it works in a browser."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csc_matrix

from dtx.analysis.core.page import Heading
from dtx.analysis.feature_pages.compute import Shown, compute
from dtx.analysis.feature_pages.effects import direct_effects
from dtx.analysis.feature_pages.features import examples, nearest, profile
from dtx.analysis.feature_pages.looks import NO_WORLD, Looks
from dtx.analysis.feature_pages.page import FeaturesPage
from dtx.analysis.feature_pages.spec import BINS, RANDOM, STRONGEST, FeaturePagesSpec
from dtx.analysis.neurons.worlds import world_picture
from dtx.config.build import ConfigError
from dtx.config.compose import build_group, compose, experiment
from dtx.dictionary.sparse import drawn_rows, encoded, first_size
from dtx.errors import UserError
from dtx.running.plan import stages
from dtx.running.provenance import provenance
from dtx.store.store import Store, used
from tests.activations.toy import stage as tiny_activations
from tests.browser import browser, browser_lacks
from tests.dictionary.toy import stage

HOOK = "blocks.0.hook_resid_post"
SPEC = FeaturePagesSpec(rows=1000, examples=3, untrained=0, seed=0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two seeds of random dictionaries of a tiny model, and the untrained network's."""
    store = Store(tmp_path_factory.mktemp("pages") / "store")
    hooks = tiny_activations(f"activations.hooks=[{HOOK}]")
    own = stage("dictionary.seeds=[0,1]", activations=hooks)
    fresh = own.of_untrained(0)
    with used(store):
        for one in stages([own, fresh]):
            with store.work(one) as work:
                assert work is not None
                one.run(work)
                store.commit(one, work, provenance(one))
        yield own, fresh


def shown_of(which, rows):
    stored, dictionaries = which.activations.load(), which.load()
    return [
        Shown(line.name, int(line.seed), encoded(dictionaries[line.name], stored, HOOK, rows))
        for line in first_size(dictionaries).itertuples()
    ]


@pytest.fixture(scope="module")
def result(made):
    own, fresh = made
    stored = own.activations.load()
    rows = drawn_rows(len(stored), SPEC.rows, 0)
    seeds = shown_of(own, rows)
    columns = {name: column[rows] for name, column in stored.columns.items()}
    found = compute(
        SPEC,
        own.load()[seeds[0].name],
        seeds[0],
        seeds[1:],
        shown_of(fresh, rows)[0],
        columns,
        own.activations.dataset,
        own.activations.dt.load(),
    )
    return found, seeds, columns


def test_every_live_feature_has_its_numbers_and_they_are_the_dictionarys(result):
    found, seeds, columns = result
    assert found.established, list(found.reasons())
    table, weight = found.tables["features"], columns["count"]
    active = seeds[0].active.toarray()
    live = np.flatnonzero((active > 0).any(0))
    assert table.feature.tolist() == live.tolist() and len(live) > 10
    density = np.average(active[:, live] > 0, axis=0, weights=weight)
    np.testing.assert_allclose(table.density, density)
    np.testing.assert_allclose(table.largest, active[:, live].max(0), rtol=1e-6)
    shares = table[["share_R", "share_S", "share_A"]].to_numpy()
    np.testing.assert_allclose(shares.sum(1), 1)
    histogram = found.arrays["histogram"]
    assert histogram.shape == (len(live), BINS)
    np.testing.assert_allclose(histogram.sum(1), density * weight.sum())
    assert found.metrics["live"] == len(live)


def test_the_strongest_tokens_are_the_strongest_and_random_ones_are_on(result):
    found, seeds, _ = result
    active, table = seeds[0].active.toarray(), found.tables["examples"]
    for feature, drawn in table.groupby("feature"):
        strongest = drawn[drawn["set"] == STRONGEST]
        assert strongest.activation.iloc[0] == pytest.approx(active[:, feature].max(), rel=1e-6)
        assert (np.diff(strongest.activation) <= 0).all()
        both = drawn[["row", "activation"]].to_numpy()
        np.testing.assert_allclose(active[both[:, 0].astype(int), feature], both[:, 1], rtol=1e-6)
        assert (drawn.activation > 0).all() and (drawn["set"] == RANDOM).any()


def test_the_check_finds_activations_of_other_tokens(made, result, monkeypatch):
    own, _ = made
    import dtx.analysis.feature_pages.compute as module

    real = module.examples

    def moved(*given):
        drawn = real(*given)
        drawn["activation"] = np.roll(drawn["activation"], 1)
        return drawn

    monkeypatch.setattr(module, "examples", moved)
    _, seeds, columns = result
    again = compute(
        SPEC, own.load()[seeds[0].name], seeds[0], (), seeds[1], columns,
        own.activations.dataset, own.activations.dt.load(),
    )  # fmt: skip
    assert not again.established and not again.checks[0].holds
    assert again.metrics["nearest_seed"] is None and "other_r" in again.tables["features"]


def test_tokens_that_look_alike_are_drawn_once():
    active = csc_matrix(np.array([[5.0], [4.9], [4.8], [1.0], [0.0]], np.float32))
    alike = np.array([0, 0, 0, 1, 2])
    drawn = examples(active, np.array([0]), alike, np.ones(5), 3, 0)
    strongest = drawn["row"][drawn["set"] == STRONGEST]
    assert strongest.tolist() == [0, 3]
    assert sorted(drawn["row"][drawn["set"] == RANDOM]) != [0, 3] and 4 not in drawn["row"]


def test_the_nearest_feature_is_itself_in_a_permuted_dictionary():
    rng = np.random.default_rng(0)
    x = rng.random((500, 12)) * (rng.random((500, 12)) < 0.2)
    weight, order = rng.integers(1, 5, 500).astype(float), rng.permutation(12)
    found, r = nearest(csc_matrix(x), csc_matrix(x[:, order] * 3), weight)
    assert order[found].tolist() == list(range(12))
    np.testing.assert_allclose(r, 1, atol=1e-12)
    other = csc_matrix(rng.random((500, 8)) * (rng.random((500, 8)) < 0.2))
    found, r = nearest(csc_matrix(x), other, weight)
    repeated = np.repeat(np.arange(500), weight.astype(int))
    full = np.corrcoef(x[repeated].T, other.toarray()[repeated].T)[:12, 12:]
    np.testing.assert_allclose(r, full.max(1), atol=1e-9)
    assert found.tolist() == full.argmax(1).tolist()


def test_a_dead_feature_has_no_nearest():
    found, r = nearest(csc_matrix((5, 1)), csc_matrix(np.eye(5)), np.ones(5))
    assert found.tolist() == [-1] and np.isnan(r).all()
    numbers = profile(csc_matrix((5, 2)), {
        "count": np.ones(5), "kind": np.zeros(5, int), "step": np.arange(5)})  # fmt: skip
    assert not len(numbers.live)


def test_direct_effects_are_what_a_direction_adds_to_the_logits(made):
    own, _ = made
    sae, model = own.load()[own.load().names[0]], own.activations.dt.load()
    effect_fa = direct_effects(sae, model)
    last = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    at_last = type(sae)(sae.architecture, sae.weights, last, k=sae.k)
    np.testing.assert_allclose(direct_effects(at_last, model), effect_fa)
    # Directly before the last LayerNorm the effect is exact, divided by that LayerNorm's scale.
    x_d = torch.randn(sae.weights["W_dec"].shape[1], dtype=torch.float64)
    small = 1e-6 * sae.weights["W_dec"][3].double()
    twin = model.double()

    def logits(x: torch.Tensor) -> torch.Tensor:
        return twin.unembed(twin.ln_final(x[None, None]))[0, 0]

    with torch.no_grad():
        change = (logits(x_d + small) - logits(x_d)) / 1e-6
        centred = x_d - x_d.mean()
        scale = (centred.pow(2).mean() + 1e-5).sqrt()
        shrink = (centred @ (small / 1e-6)) / len(x_d) / scale**2  # the scale moves, too
        effect = change * scale + shrink * scale * (logits(x_d) - logits(x_d.new_zeros(len(x_d))))
    model.float()
    np.testing.assert_allclose(effect_fa[3], (effect - effect.mean()).numpy(), atol=1e-4)
    query = type(sae)(sae.architecture, sae.weights, "blocks.0.attn.hook_q", k=sae.k)
    assert direct_effects(query, model) is None


def test_without_facts_views_alone_are_drawn(result):
    found, _, _ = result
    assert (found.tables["examples"]["world"] == NO_WORLD).all() and len(found.arrays["views"]) > 1


def test_worlds_are_those_that_minigrid_draws(rollouts, store):
    """The world of a token, drawn from its recorded facts, is the one that was played."""
    for one in stages([rollouts]):
        with store.work(one) as work:
            assert work is not None
            one.run(work)
            store.commit(one, work, provenance(one))
    episodes = rollouts.load()
    last = int(np.argmax(episodes.length))
    columns = {
        "episode": np.full(3, last), "step": np.array([0, 2, 5]), "kind": np.array([1, 1, 2])
    }  # fmt: skip
    looks = Looks(rollouts, columns)
    places, arrays = looks.drawn(np.arange(3))
    compared = 0
    for row, step in enumerate(columns["step"]):
        at = int(episodes.start[last]) + int(step)
        state = pd.Series({"episode": last, "step": step, "row": at})
        wanted = world_picture(episodes, rollouts.env.decision, state)
        if wanted is not None:  # the simple replay of neurons knows the start of known layouts only
            compared += 1
            assert (arrays["worlds"][places["world"][row]] == wanted).all()
    assert compared == 3 and looks.worlds_known and (places["world"] >= 0).all()
    assert looks.described(np.arange(3))["action"].tolist()[:2] == ["", ""]


def test_nothing_on_is_said(made, result):
    own, _ = made
    _, seeds, columns = result
    dead = Shown("dead", 0, csc_matrix(seeds[0].active.shape, dtype=np.float32))
    with pytest.raises(UserError, match="no feature of dead is on"):
        compute(
            SPEC, own.load()[seeds[0].name], dead, (), seeds[1], columns,
            own.activations.dataset, own.activations.dt.load(),
        )  # fmt: skip


# --- the page ---


@pytest.fixture(scope="module")
def page(result, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    (folder / "figures").mkdir()
    heading = Heading("feature_pages", "What?", {"dictionary": "topk-1"})
    FeaturesPage(result[0], heading).write_html(folder / "figures/feature_pages.html")
    return folder / "figures/feature_pages.html"


def test_the_slices_hold_every_feature(page, result):
    text = page.read_text()
    packs = re.findall(r'id="slice-\d+">([^<]+)<', text)
    details = [d for p in packs for d in json.loads(gzip.decompress(base64.b64decode(p)))]
    table = result[0].tables["features"]
    assert len(details) == len(table)
    for detail, density in zip(details, table.density, strict=True):
        assert sum(detail["histogram"]) == pytest.approx(density * result[2]["count"].sum())
    assert "http://" not in text.replace("http://www.w3.org", "") and "https://" not in text


@pytest.mark.slow
@pytest.mark.skipif(bool(browser_lacks()), reason=browser_lacks())
def test_the_page_is_used_with_keys_and_on_a_phone(page):
    with browser() as tab:
        tab.open(page.as_uri())
        tab.wait("document.querySelector('#detail figure img')")
        first = tab.js("document.querySelector('#detail h2').firstChild.textContent")
        press = (
            "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: '%s', bubbles: true}))"
        )
        tab.js(press % "j")
        tab.wait(f"document.querySelector('#detail h2').firstChild.textContent !== {first!r}")
        tab.js(press % "k")
        tab.wait(f"document.querySelector('#detail h2').firstChild.textContent === {first!r}")
        tab.js(press % "s")
        assert tab.js("document.querySelectorAll('[aria-sort]').length") == 1
        tab.js(press % "/")
        assert tab.js("document.activeElement.id") == "filter"
        number = first.split()[-1]
        tab.js(f"document.getElementById('filter').value = '#{number}'")
        tab.js("document.getElementById('filter').dispatchEvent(new Event('input'))")
        assert tab.js("document.getElementById('rows').rows.length") == 1
        for width in (390, 1440):
            for dark in (False, True):
                tab.resize(width, 844, dark=dark)
                assert tab.js("document.documentElement.scrollWidth") <= width
        assert not tab.errors and all(u.startswith(("file:", "data:")) for u in tab.asked)


# --- as a stage ---


def test_labels_of_other_dictionaries_are_refused():
    labels = "analysis.feature_pages.labels=${analysis.labels}"
    chosen = ["analysis=[labels,feature_pages]", labels]
    found = experiment(compose(chosen)).targets
    assert found["feature_pages"].labels is not None
    wrong = [*chosen, "analysis.labels.dictionary={_base_: '${dictionary}', width: [64]}"]
    with pytest.raises(ConfigError, match="is of other dictionaries"):
        experiment(compose(wrong))
    swapped = [
        "analysis=[labels,feature_pages]",
        "analysis.feature_pages.features=${analysis.labels}",
    ]
    with pytest.raises(ConfigError, match="takes the analysis features, not labels"):
        experiment(compose(swapped))
    controls = ["dictionary.how=[frozen_decoder]"]
    with pytest.raises(ConfigError, match="trains no dictionary, only controls"):
        build_group("analysis/feature_pages", controls)
