"""The panel Features finds the dictionaries that stages trained on a model's stored activations."""

import dataclasses

import pytest

import dtx
from dtx.app.address import parse
from dtx.app.asked import Explorer
from dtx.app.dictionaries import dictionaries_of
from dtx.app.frames import decode, encode
from dtx.app.models import Catalogue, Loader
from dtx.app.scene import OpenPanel
from dtx.dictionary.spec import How
from dtx.exchange.lookup import kind_of
from dtx.running.provenance import provenance
from dtx.store.store import Store, used
from tests.activations.toy import fresh
from tests.activations.toy import stage as storing
from tests.dictionary.toy import stage as random_dictionaries

HOOKS = ["blocks.0.hook_resid_post", "blocks.1.mlp.hook_post"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with a model's dictionaries, a control, those of an untrained twin and of another model."""
    store = Store(tmp_path_factory.mktemp("dictionaries") / "store")
    own, other = (
        random_dictionaries(activations=storing(dt=fresh(seed=seed), hooks=tuple(HOOKS)))
        for seed in (3, 4)
    )
    frozen = dataclasses.replace(own, how=(How.frozen_decoder,))
    with used(store):
        for stage in (own, frozen, other, own.of_untrained(0)):
            for each in _all(stage):
                with store.work(each) as work:
                    if work is not None:
                        each.run(work)
                        store.commit(each, work, provenance(each))
    return store, own, frozen


def _all(stage):
    """What a stage reads before the stage itself, inputs first."""
    for each in stage.inputs().values():
        yield from _all(each)
    yield stage


def test_a_models_dictionaries_are_found_and_those_of_others_are_not(made):
    store, own, frozen = made
    explorer = Explorer(Catalogue(store))
    key = own.activations.dt.key[:8]
    asked = explorer.understood(parse(f"#1&m={key}&env=memory")[0].json())
    (moment,) = explorer.moments(asked, Loader())
    found, reasons = dictionaries_of(moment)
    names = [f"{hook}-24-4-0" for hook in HOOKS]
    assert [each.name for each in found] == [*names, *(f"{name}-frozen_decoder" for name in names)]
    assert [each.folder.parent.name for each in found] == [own.label] * 2 + [frozen.label] * 2
    assert not reasons


@pytest.mark.parametrize("hook", HOOKS)
def test_the_panel_shows_one_by_its_name(made, hook):
    store, own, _ = made
    explorer = Explorer(Catalogue(store))
    key, panel = own.activations.dt.key[:8], OpenPanel("features", {"dictionary": f"{hook}-24-4-0"})
    answer = explorer.ask(parse(f"#1&m={key}&env=memory")[0].json(), [panel], Loader())
    data = decode(encode(answer))["panels"]["features"][0]["data"]
    assert data["hook"] == hook and data["size"] == 24 and data["gives"] == ""
    assert data["check"]["holds"]


def test_dtx_load_gives_them_by_name(made):
    store, own, _ = made
    assert kind_of(store.artefact(own)) == "dictionary"
    loaded = dtx.load("dictionary", own.label, store=store)
    name = f"{HOOKS[0]}-24-4-0"
    assert loaded.frame["name"].tolist()[0] == name
    assert loaded.dictionaries[name].hook_name == HOOKS[0]
    with pytest.raises(KeyError, match="did you mean"):
        loaded.dictionaries[name[:-1] + "1"]
