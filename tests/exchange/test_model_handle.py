"""What is asked of a loaded model and would change nothing is told, by each of its methods."""

import warnings

import pytest
import torch

import dtx
from dtx.config.compose import build_group
from dtx.errors import UserError
from dtx.running.provenance import provenance
from dtx.store.store import Store
from tests.dt.toy import episodes


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("handle") / "store")
    stage = build_group("dt/planted")
    with store.work(stage) as work:
        stage.run(work)
        store.commit(stage, work, provenance(stage))
    dt = dtx.load("dt", "planted", store=store)
    dt.__dict__["episodes"] = episodes(horizon=5)
    return dt


@pytest.mark.parametrize(
    "names, words",
    [
        ("blocks.0.attn.hook_zs", r"did you mean 'blocks\.0\.attn\.hook_z'"),
        (["hook_embed", "blocks.7.hook_mlp_out"], r"no hook point 'blocks\.7\.hook_mlp_out'"),
        ("blocks.0.attn.hook_result", r"use_attn_result is off: call model\.set_use_attn_result"),
        (("blocks.1.hook_k_input",), "use_split_qkv_input is off"),
        (lambda name: "hook_mlp_in" in name, "use_hook_mlp_in is off"),
        (lambda name: name == "hook_embd", "chooses no hook point"),
        ([], "no hook point is named"),
    ],
)
@pytest.mark.parametrize("of", ["as it is", "folded"])
def test_a_cache_of_nothing_is_refused(loaded, of, names, words):
    dt = loaded if of == "as it is" else loaded.folded()
    for context in (dt.decisions(), *([3] if dt is loaded else [])):
        with pytest.raises(UserError, match=words):
            dt.run_with_cache(context, names)


def test_switched_on_it_is_kept_and_the_rest_is_bit_for_bit_the_same(loaded):
    dt, context = dtx.load("dt", path=loaded.folder), loaded.decisions()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logits, cache = loaded.run_with_cache(context)
        assert not {"blocks.0.hook_mlp_in", "blocks.0.attn.hook_result"} & set(cache.cache_dict)
        dt.model.set_use_hook_mlp_in(True)
        found, kept = dt.run_with_cache(context, ["blocks.0.hook_mlp_in"])
    assert torch.equal(found, logits)
    assert torch.equal(kept["blocks.0.hook_mlp_in"], cache["blocks.0.hook_resid_mid"])


def test_no_windows_are_refused_or_told(loaded):
    for count in (0, -1):
        for ask in (loaded.windows, loaded.run_with_cache):
            with pytest.raises(UserError, match=f"windows: count={count} must be at least 1"):
                ask(count)
    with pytest.warns(UserWarning, match="the cache is empty"):
        loaded.run_with_cache(loaded.decisions()[:0])
    assert len(loaded.windows(3)) == 3


@pytest.mark.parametrize(
    "asked, words",
    [
        ({"reward_to_go": []}, "reward_to_go is empty"),
        ({"greedy": True, "temperature": 2.0}, "temperature=2 changes no greedy action"),
    ],
)
def test_play_that_would_be_the_same_is_refused(loaded, asked, words):
    with pytest.raises(UserError, match=words):
        loaded.rollout(**{"episodes": 1} | asked)


def test_targets_that_a_behaviour_clone_does_not_read_are_told(loaded, monkeypatch):
    monkeypatch.setattr(loaded.model.cfg, "reward_to_go", False)
    with (
        pytest.warns(UserWarning, match="reads no reward-to-go: it plays the same at every"),
        pytest.raises(UserError, match="has 7 actions"),  # after it, for want of a clone here
    ):
        loaded.rollout([0.0, 0.9], 1, env="dynamic_obstacles")


@pytest.mark.parametrize(
    "override", ["env.size=9", "dt.steps=3", "dataset.episodes=1", "pairs2.x=1"]
)
def test_overrides_that_do_not_reach_the_pairs_are_refused(loaded, override):
    with pytest.raises(UserError, match=f"pairs: {override} does not reach the pairs"):
        loaded.pairs("memory", "pairs.source.variants=1", override)


def test_hooks_are_in_force_in_play_and_copies_say_that_they_have_none(loaded):
    def silence(z, hook):
        return z * 0

    plain = loaded.rollout([0.0, 0.9], 4, greedy=True)
    with loaded.model.hooks(fwd_hooks=[("blocks.0.attn.hook_z", silence)]):
        edited = loaded.rollout([0.0, 0.9], 4, greedy=True)
        with pytest.warns(UserWarning, match="the copy has none of the model's hooks"):
            loaded.folded()
    assert (edited["outcome"] != plain["outcome"]).any()
    assert loaded.rollout([0.0, 0.9], 4, greedy=True).equals(plain)
    with (
        pytest.warns(UserWarning, match=r"never called: blocks\.0\.attn\.hook_z"),
        loaded.model.hooks(fwd_hooks=[("blocks.0.attn.hook_z", silence)]),
    ):
        dtx.load("dt", path=loaded.folder).run_with_cache(loaded.decisions())
