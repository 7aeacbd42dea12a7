"""When a node counts as needed: only for a decision, and no more often than chance allows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from dtx.analysis.ablation import Ablation
from dtx.analysis.ablation.choice import choice_of, turn_signs
from dtx.analysis.ablation.effects import p_of
from dtx.analysis.ablation.spec import AblationMethod
from dtx.analysis.core.inputs import Contrast
from dtx.dt.load import untrained_like
from dtx.env.actions import Action
from tests.analysis.test_ablation import Given, ablation, model


@pytest.fixture
def stage(env) -> Ablation:
    return ablation(env)


def test_without_a_decision_no_node_is_needed_for_it(stage):
    found = dataclasses.replace(stage, methods=(AblationMethod.zero,), min_ld_gap=1e4).compute()
    assert not found.established and "there is no decision that a node" in found.summary
    ranking = found.tables["ranking"]
    assert not (ranking.needed | ranking.hinders).any() and ranking.share.isna().all()


def test_one_side_in_all_layouts_is_no_decision(env):
    frame = pd.DataFrame(
        [(layout, target) for target in (0.0, 0.9) for layout in env.decision.layouts],
        columns=["layout", "target"],
    )
    contrast = Contrast(pos=Action.left, neg=Action.right)
    turns = turn_signs(env.decision, frame, contrast)
    assert turns.tolist() == [1, -1, 1, -1] * 2 or turns.tolist() == [1, -1, -1, 1] * 2
    always_left, wrong = np.full(4, 3.0), -2 * turns[:4]
    choice = choice_of(np.concatenate([always_left, wrong]), frame, turns)
    assert choice.gap == {"0": 0.0, "0.9": 2.0} and choice.by_turns
    assert (choice.sign_b[4:] == -turns[4:]).all()
    # Without turns it is what each window prefers.
    plain = choice_of(np.concatenate([always_left, wrong]), frame, None)
    assert plain.gap == {"0": 3.0, "0.9": 2.0} and not plain.by_turns
    forward = Contrast(pos=Action.left, neg=Action.forward)
    assert turn_signs(env.decision, frame, forward) is None
    assert turn_signs(None, frame, contrast) is None


@pytest.mark.parametrize(("dimensions", "windows"), [(8, 1), (15, 1), (256, 1), (15, 4)])
def test_p_of_a_random_direction_is_uniform(dimensions, windows):
    """Of a linear readout, whatever the number of dimensions: 5% of them are below 5%."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(2000):
        direction = rng.normal(size=(21, windows, dimensions))
        direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
        readout = rng.normal(size=(windows, dimensions))
        effect = np.einsum(
            "kwd,wd->kw", direction, readout / np.linalg.norm(readout, axis=-1, keepdims=True)
        )
        effect = effect.mean(1)
        unit = np.sqrt((effect[1:] ** 2).mean())
        found.append(p_of(abs(effect[0]), unit, dimensions, 20, windows))
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.05, abs=0.015)
    assert np.mean(np.array(found) < 0.005) == pytest.approx(0.005, abs=0.005)


def test_untrained_models_need_no_node(stage):
    """Even if what little tells the turns apart in them counts as a decision, in logits made large."""
    answers, found = 0, 0
    for seed in range(5):
        network = untrained_like(model(), seed)
        with torch.no_grad():
            network.unembed.W_U *= 1000
        methods = (AblationMethod.zero, AblationMethod.mean)
        given = dataclasses.replace(stage, dt=Given(network), methods=methods, min_ld_gap=1e-3)
        ranking = given.compute().tables["ranking"]
        assert ranking.share.notna().mean() > 0.5
        answers += len(ranking)
        found += int((ranking.needed | ranking.hinders).sum())
    assert found <= 0.05 * answers
