"""Acting with kept keys and values gives the logits of computing every context from its start."""

import numpy as np
import pytest
import torch

from dtx.analysis.steering.edits import ActivationEdit, Steered
from dtx.analysis.steering.spec import Tokens
from dtx.dt import incremental
from dtx.dt.edits import Depends, Edit
from dtx.dt.history import History
from dtx.dt.incremental import Acting, KeysAndValues, bytes_of_row
from dtx.dt.processing import processed
from tests.dt.test_rollout import Corridor, network

WHOLE = ("dt.windows.context=12", "dt.model.n_ctx=35")
MODELS = {
    "whole episodes": WHOLE,
    "more than whole episodes": ("dt.windows.context=15", "dt.model.n_ctx=44"),
    "sliding": (),
    "sliding from the second step on": ("dt.windows.context=1", "dt.model.n_ctx=2"),
    "clone": (*WHOLE, "dt.reward_to_go=false"),
    "sliding clone": ("dt.reward_to_go=false",),
    "gated": (*WHOLE, "dt.model.gated_mlp=true"),
    "no LayerNorm": (*WHOLE, "dt.model.layer_norm=false"),
    "linear time": (*WHOLE, "dt.model.time_embedding=linear"),
    "no positional embedding": (*WHOLE, "dt.model.positional_embedding=false"),
    "one layer": (*WHOLE, "dt.model.n_layers=1"),
    "padded on the left": (*WHOLE, "dt.windows.padding=left"),
}


def episodes(model, player=None, *, agents=40, absent=0.0, steps=12):
    """Yield the logits of acting along random episodes, and those of every context from its start.

    Half of the agents leave on the way; a share of those that play is absent at each step.
    """
    rng = np.random.default_rng(0)
    world = Corridor(rng.integers(2, 7, agents))
    observations = world.reset()
    history = History(model.cfg, agents, steps)
    acting = Acting(player or model, history)
    targets = rng.choice([0.1, 0.9], agents).astype(np.float32)
    for step in range(steps):
        history.see(observations, targets)
        playing = np.arange(agents - agents // 2 * step // steps)
        who = playing[rng.random(len(playing)) >= absent]
        with torch.inference_mode():
            whole = (player or model).last_logits(history.context(who))
            if player is None:
                whole = model(history.context(who))[:, -1]
            yield acting, acting.logits(who), whole.double().numpy()
        actions = rng.integers(0, 3, agents)
        actions[rng.random(agents) < 0.5] = 2  # so that some agents go on alike
        history.act(actions)
        step = world.step(actions)
        observations, targets = step.observations, targets - step.reward


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("chunk", [128, 3])
def test_logits_are_those_of_the_whole_context(name, chunk, monkeypatch):
    monkeypatch.setattr(incremental, "CHUNK", chunk)
    spread = []
    for _, found, wanted in episodes(network(*MODELS[name])):
        # Of the largest logit: without LayerNorm they, and so their rounding, grow from layer to layer.
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * max(1, np.abs(wanted).max()))
        spread.append(np.ptp(wanted, 0).max())
    assert min(spread) > 0.05  # contexts differ in their logits: rows that are mixed up are seen


@pytest.mark.parametrize("rows", [1, 4])
def test_contexts_without_a_row_are_computed_anew(rows, monkeypatch):
    model = network(*WHOLE)
    monkeypatch.setattr(incremental, "CHUNK", 3)
    monkeypatch.setattr(KeysAndValues.__init__, "__defaults__", (rows * bytes_of_row(model, 12),))
    for acting, found, wanted in episodes(model):
        assert acting._kept is not None and acting._kept.capacity == rows
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_agents_may_be_absent_for_a_step():
    for _, found, wanted in episodes(network(*WHOLE), absent=0.3):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_processed_model_acts_alike():
    for _, found, wanted in episodes(processed(network(*WHOLE, "dt.model.gated_mlp=true"))):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_an_edited_player_sees_every_context_from_its_start():
    model = network(*WHOLE)
    size = torch.randn(16, generator=torch.Generator().manual_seed(0))
    edit = ActivationEdit("x", "blocks.1.hook_resid_pre", Tokens.last_state, vector=size)
    changes = []
    for acting, found, wanted in episodes(model, Steered(model, edit)):
        assert acting._kept is None
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    with model.hooks(fwd_hooks=[("blocks.0.hook_mlp_out", lambda value, hook: value * 0)]):
        for acting, found, wanted in episodes(model):
            assert acting._kept is None
            np.testing.assert_allclose(found, wanted, atol=1e-6)
            changes.append(found)
    plain = [found for _, found, _ in episodes(model)]
    assert max(np.abs(a - b).max() for a, b in zip(changes, plain, strict=True)) > 0.01


def bend(value, hook):
    return value + 0.5 * torch.sin(3 * value)


POINTS = {
    "embedding": ("hook_embed", "hook_pos_embed"),
    "contents": tuple(f"embed.hook_{name}" for name in ("state", "action", "reward_to_go", "time")),
    "stream": tuple(f"blocks.{i}.hook_resid_{at}" for i in (0, 1) for at in ("pre", "mid", "post")),
    "parts": tuple(f"blocks.{i}.hook_{part}_out" for i in (0, 1) for part in ("attn", "mlp")),
    "heads": tuple(f"blocks.{i}.attn.hook_{name}" for i in (0, 1) for name in "qkvz"),
    "neurons": tuple(f"blocks.{i}.mlp.hook_{name}" for i in (0, 1) for name in ("pre", "post")),
    "norms": (
        "blocks.0.ln1.hook_scale",
        "blocks.1.ln2.hook_normalized",
        "ln_final.hook_normalized",
    ),
    "inputs": tuple(f"blocks.1.hook_{name}_input" for name in "qkv"),
    "results": ("blocks.0.attn.hook_result", "blocks.1.attn.hook_result", "blocks.1.hook_mlp_in"),
}


@pytest.mark.parametrize("name", POINTS)
def test_edits_of_single_tokens_give_the_logits_of_the_whole_edited_context(name):
    model = network(*WHOLE)
    model.set_use_split_qkv_input(name == "inputs")
    model.set_use_attn_result(name == "results")
    model.set_use_hook_mlp_in(name == "results")
    plain = [found for _, found, _ in episodes(model)]
    changes = []
    with model.hooks(fwd_hooks=[(point, Edit(bend, Depends.token)) for point in POINTS[name]]):
        for before, (acting, found, wanted) in zip(plain, episodes(model), strict=True):
            assert acting._kept is not None
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
            changes.append(np.abs(found - before).max())
    assert max(changes) > 0.01


def test_an_edit_that_looks_at_other_tokens_and_denies_it_gives_other_logits():
    """So the test above can fail: what the edit is shown are the new tokens alone."""
    model = network(*WHOLE)

    def centred(value, hook):
        return value - value.mean(1, keepdim=True)

    with model.hooks(fwd_hooks=[("blocks.0.hook_resid_post", Edit(centred, Depends.token))]):
        apart = [np.abs(found - wanted).max() for _, found, wanted in episodes(model)]
    assert max(apart) > 0.01


def test_edits_of_single_tokens_in_windows_that_slide():
    model = network()
    with model.hooks(fwd_hooks=[("blocks.0.hook_resid_post", Edit(bend, Depends.token))]):
        for _, found, wanted in episodes(model):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_what_was_kept_is_let_go_when_the_window_slides():
    kept = [acting._kept is not None for acting, *_ in episodes(network())]
    assert kept == [True] * 4 + [False] * 8


def test_rows_have_no_gaps_and_follow_their_parents():
    model = network(*WHOLE)
    kept = KeysAndValues(model, History(model.cfg, 8, 12))
    assert kept._place(np.full(2, -1)).tolist() == [0, 1]
    kept._steps = 1
    # Row 2's only child moves into row 1, for nobody goes on from there; row 0's second child is a copy.
    assert sorted(kept._place(np.array([0, 2, 0])).tolist()) == [0, 1, 2]
    assert kept._place(np.array([2, 0])).tolist() == [1, 0]


def test_only_new_tokens_are_computed():
    model = network(*WHOLE)
    tokens = []
    norm = model.blocks[0].ln1  # no hook of it: with one, all is computed anew
    forward = norm.forward

    def seen(x):
        tokens.append(x.shape[1])
        return forward(x)

    norm.forward = seen
    history = History(model.cfg, 1, 12)
    acting = Acting(model, history)
    with torch.inference_mode():
        for _ in range(5):
            history.see(np.zeros((1, 7, 7, 3), np.uint8), np.zeros(1, np.float32))
            acting.logits(np.array([0]))
            history.act(np.array([2]))
    assert tokens == [2, 3, 3, 3, 3]
