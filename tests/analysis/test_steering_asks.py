"""Steering: many edits computed together, the search, what is another reward-to-go, and untrained models."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from dtx.analysis.core.channels import cell_names
from dtx.analysis.steering import Steering
from dtx.analysis.steering.asks import likeness
from dtx.analysis.steering.compute import result_of
from dtx.analysis.steering.edits import ActivationEdit, Steered, activations, residual
from dtx.analysis.steering.measure import measure
from dtx.analysis.steering.methods import random_like
from dtx.analysis.steering.runs import Runs
from dtx.analysis.steering.search import COST, Split, best
from dtx.analysis.steering.spec import Play, Tokens
from dtx.analysis.steering.windows import CHANGE, WindowMaker, asked
from dtx.dt.load import untrained_like
from dtx.env.actions import Action
from tests.analysis.core.test_windows import model
from tests.analysis.test_steering import small
from tests.dt.planted_variants import planted


@pytest.fixture(scope="module")
def stage(env) -> Steering:
    return small(env)


def test_what_no_request_gives_is_something_else(stage):
    """The planted model made to turn left always: no reward-to-go makes it do so in all layouts."""
    place = dataclasses.replace(stage.goals["rtg_off"].change[0], reward_to_go=(0.0, 0.1, 0.892))
    goal = dataclasses.replace(
        stage.goals["rtg_off"], claim="it turns left", like=None, action=Action.left, play=Play.return_,
        change=(place,), keep=stage.goals["rtg_off"].keep[1:3],
    )  # fmt: skip
    network = planted("plain")[1].requires_grad_(False)
    maker = WindowMaker(stage, network, stage.env.decision)
    held = Split(network, maker.windows(goal), held_out=True)
    left = network.W_U[:, Action.left.number] - network.W_U[:, Action.right.number]
    edit = ActivationEdit("", residual(2), Tokens.last_state, alpha=40.0, vector=left)
    success, _ = held.reached([edit])
    assert success.all()
    for one in likeness(network, [held.change, held.made], edit, stage.compared, [0.0, 0.892]):
        assert one.remaining > 0.5 or one.kl > 1


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in (1, 2, 3, 4))]
)
def test_nothing_is_stated_about_untrained_models(stage, seed):
    """No "depends" either, which is a statement."""
    network = untrained_like(model(n_layers=2), seed)
    wanted = dataclasses.replace(
        stage, env=dataclasses.replace(stage.env, max_steps=20), episodes=10, clamp_parts=False,
        descent=dataclasses.replace(stage.descent, steps=25),
    )  # fmt: skip
    claims = result_of(wanted, measure(wanted, network, wanted.env)).claims
    assert len(claims) == 3
    assert not any(claim.verdict.states for claim in claims), claims


EDITS = {
    "last state": {"hook": residual(1), "tokens": Tokens.last_state, "vector": True},
    "last state, embedding": {"hook": residual(0), "tokens": Tokens.last_state, "vector": True},
    "last state, if": {
        "hook": residual(0),
        "tokens": Tokens.last_state,
        "vector": True,
        "only_if": True,
    },
    "reward-to-go": {"hook": residual(1), "tokens": Tokens.reward_to_go, "vector": True},
    "last reward-to-go": {"hook": residual(0), "tokens": Tokens.last_reward_to_go, "vector": True},
    "first state": {"hook": residual(0), "tokens": Tokens.first_state, "vector": True},
    "clamp": {"hook": residual(0), "tokens": Tokens.reward_to_go},
    "clamp, if": {"hook": residual(0), "tokens": Tokens.reward_to_go, "only_if": True},
    "head": {"hook": "blocks.0.attn.hook_z", "tokens": Tokens.all, "head": 1},
    "last head": {"hook": "blocks.2.attn.hook_z", "tokens": Tokens.all, "head": 0},
    "MLP": {"hook": "blocks.1.hook_mlp_out", "tokens": Tokens.all},
    "last MLP": {"hook": "blocks.2.hook_mlp_out", "tokens": Tokens.all},
}


@pytest.mark.parametrize("left", [False, True])
def test_edits_computed_in_part_and_together_are_the_edited_runs(stage, left):
    network = model(n_layers=3, left_padding=left).requires_grad_(False)
    maker = WindowMaker(stage, network, stage.env.decision)
    runs = Runs(network, maker.windows(stage.goals["always_look_back"]).part(CHANGE, True))
    generator = torch.Generator().manual_seed(0)
    edits = []
    for how in EDITS.values():
        vector = torch.randn(16, generator=generator) if how.get("vector") else None
        only_if = cell_names().index("ball (2,6)") if how.get("only_if") else None
        edit = ActivationEdit("", how["hook"], how["tokens"], how.get("head"), vector=vector,
                              clamp=0.7, only_if=only_if)  # fmt: skip
        edits += [edit.at(1.5), random_like(edit, network, generator)]
    together = runs.log_p(edits)
    for edit, log_p, points in zip(edits, together, runs.points(edits), strict=True):
        whole = [Steered(network, edit).last_logits(b.context) for b in runs.windows.batches]
        assert (torch.cat(whole).log_softmax(-1) - log_p).abs().max() < 1e-5, edit
        assert len(points) == 4 - edit.layer  # before every block from there on, and at the end
        assert (network.read(points[-1]).log_softmax(-1) - log_p).abs().max() < 1e-5
    for layer in range(3):
        asked_for = torch.cat([network(asked(b.context, 0.5))[:, -1] for b in runs.windows.batches])
        assert (network.read(runs.asked(0.5, layer)[-1]) - asked_for).abs().max() < 1e-5


def test_a_request_is_recognised_at_any_layer_and_a_random_vector_is_none(stage):
    """The activations of the run that is asked for .892, put in at a layer by one vector a window."""
    network = model(n_layers=3).requires_grad_(False)
    network.embed.W_R.mul_(5)
    windows = WindowMaker(stage, network, stage.env.decision).windows(stage.goals["rtg_off"])
    held = Split(network, windows, held_out=True)
    for edit in (
        ActivationEdit("", residual(0), Tokens.reward_to_go, clamp=0.892),
        ActivationEdit("", residual(0), Tokens.reward_to_go, vector=0.8 * network.embed.W_R[0]),
    ):
        for value, one in zip((0.0, 0.1), likeness(network, [held.change], edit, (0.0, 0.8, 0.892, 2.0),
                                                   (0.0, 0.1)), strict=True):  # fmt: skip
            wanted = 0.892 if edit.vector is None else 0.8 + value
            assert abs(one.asked - wanted) < 0.01 and one.remaining < 1e-3 and one.cosine > 0.999
            assert one.kl < 1e-4
    for layer in (1, 2):
        held_windows = held.change.windows.batches[:1]
        runs = Runs(network, dataclasses.replace(held.change.windows, batches=held_windows))
        both = [asked(held_windows[0].context, value) for value in (0.892, 0.1)]
        rows = np.flatnonzero(held_windows[0].table["reward_to_go"] == 0.1)
        there, here = (activations(network, c, residual(layer))[rows, -1] for c in both)
        vector = (there - here).mean(0)
        edit = ActivationEdit("", residual(layer), Tokens.last_state, vector=vector)
        (one,) = likeness(network, [runs], edit, (0.1, 0.4, 0.892), (0.1,))
        (other,) = likeness(
            network, [runs], random_like(edit, network, torch.Generator().manual_seed(layer)),
            (0.1, 0.4, 0.892), (0.1,),
        )  # fmt: skip
        assert one.remaining < 0.5 < other.remaining and one.asked > 0.1, layer
    nothing = ActivationEdit("", residual(1), Tokens.last_state, alpha=0.0, vector=torch.ones(16))
    assert likeness(network, [held.change], nothing, (0.5,), (0.0,)) == [None]


def test_the_best_is_found_although_not_all_side_effects_are_computed(stage):
    network = model(n_layers=2).requires_grad_(False)
    windows = WindowMaker(stage, network, stage.env.decision).windows(stage.goals["rtg_off"])
    split = Split(network, windows, held_out=False)
    generator = torch.Generator().manual_seed(3)
    edits = [
        ActivationEdit("", residual(i % 2), Tokens.last_state, alpha=(0.2, 2.0)[i // 12],
                       vector=torch.randn(16, generator=generator))
        for i in range(24)
    ]  # fmt: skip
    success, probability = (x.mean(1) for x in split.reached(edits))
    kl = split.side_effects(edits).mean(1)
    scores = success - COST * kl / stage.max_side_effect
    order = sorted(range(len(edits)), key=lambda i: (-scores[i], -probability[i]))
    first, *rest = best(stage, split, edits)
    assert first.edit is edits[order[0]] and first.score == pytest.approx(scores[order[0]])
    assert len(rest) == len(edits) - 1 and any(np.isnan(one.kl) for one in rest)
