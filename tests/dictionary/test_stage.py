"""Dictionaries as stages: what follows from their fields, and what is refused before anything runs."""

import numpy as np
import pytest

import dtx
from dtx.config.build import ConfigError
from dtx.config.compose import compose, experiment
from dtx.dictionary.spec import How
from dtx.exchange.lookup import kind_of
from dtx.running.plan import stages
from dtx.running.provenance import provenance
from dtx.store.store import Store, used
from tests.activations.toy import stage as tiny_activations
from tests.dictionary.toy import stage

HOOK = "blocks.0.hook_resid_post"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with a dictionary, its untrained network's and its controls'."""
    store = Store(tmp_path_factory.mktemp("dictionaries") / "store")
    own = stage(activations=tiny_activations(f"activations.hooks=[{HOOK}]"))
    every = {"own": own, "untrained": own.of_untrained(1), "controls": own.controls()}
    with used(store):
        for one in stages(every.values()):
            with store.work(one) as work:
                assert work is not None
                one.run(work)
                store.commit(one, work, provenance(one))
        yield store, every


def test_an_untrained_networks_activations_have_the_same_rows_and_other_values(made):
    _, every = made
    own, other = (every[name].activations.load() for name in ("own", "untrained"))
    for name, column in own.columns.items():
        np.testing.assert_array_equal(column, other.columns[name], err_msg=name)
    assert np.abs(own.array(HOOK) - other.array(HOOK)).max() > 0.1


def test_stages_that_follow_from_a_dictionary_differ_in_what_they_should(made):
    _, every = made
    own, untrained, controls = every.values()
    assert untrained.activations.dt.like is own.activations.dt
    assert untrained.seeds == own.seeds[:1] and untrained.how == (How.trained,)
    assert How.trained not in controls.how and len(controls.how) == len(How) - 1
    assert len({s.key for s in every.values()}) == 3
    assert own.of_untrained(1).key == untrained.key != own.of_untrained(2).key


def test_dictionaries_are_loaded_by_name(made):
    store, every = made
    handle = dtx.load("dictionary", every["own"].label, store=store)
    assert kind_of(handle.folder) == "dictionary"
    assert handle.dictionaries.names == [f"{HOOK}-24-4-0"]
    sae = handle.dictionaries[f"{HOOK}-24-4-0"]
    assert sae.hook_name == HOOK and sae.weights["W_dec"].shape == (24, 16)
    with pytest.raises(KeyError, match="no dictionary"):
        handle.dictionaries[f"{HOOK}-24-4-1"]
    assert dtx.load("dictionary", every["controls"].label, store=store).frame.how.nunique() == 3


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("dictionary.k=[2000]", "k: 2000 features a token of 1024: choose a smaller k"),
        ("dictionary.hooks=[blocks.0.hook_resid_post]", "hooks: blocks.0.hook_resid_post is not stored"),
        ("dictionary.seeds=[1,1]", "seeds: names 1 twice"),
        ("dictionary.how=[trained,trained]", "how: names trained twice"),
        ("dictionary.width=[]", "width: needs at least one width"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_runs(override, told):
    with pytest.raises(ConfigError, match=r"dictionary\.") as refused:
        experiment(compose(["target=dictionary", override]))
    assert told in str(refused.value)
