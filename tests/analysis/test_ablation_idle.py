"""Ablations that change nothing, or that a model does not have, are told."""

import dataclasses

import pytest
import torch

from dtx.analysis.ablation import Ablation
from dtx.analysis.ablation.spec import AblationMethod
from dtx.config.compose import build_group
from tests.analysis.test_ablation import Given, ablation, model


@pytest.fixture
def stage(env) -> Ablation:
    return ablation(env)


def test_an_ablation_that_changes_nothing_is_said_to(stage):
    """A model in which no output is read any more: everything is as it was, whatever is ablated."""
    network = model()
    for block in network.blocks:
        torch.nn.init.zeros_(block.attn.W_O)
        torch.nn.init.zeros_(block.attn.b_O)
        torch.nn.init.zeros_(block.mlp.W_out)
        torch.nn.init.zeros_(block.mlp.b_out)
    found = dataclasses.replace(stage, dt=Given(network), donors=2).compute()
    said = [reason for reason in found.reasons() if "changes no logit difference" in reason]
    assert [reason.split()[1] for reason in said] == ["zero", "mean", "resample"]
    assert not any("changes no logit" in r for r in stage.compute().reasons())


def test_one_window_of_data_is_no_mean_and_no_other_donor(stage):
    words = "all windows of data are the same one"
    one = dataclasses.replace(stage, reference=1, donors=2)
    assert any(words in reason for reason in one.compute().reasons())
    assert [field for field, _ in one.check()] == ["reference"]
    zero = dataclasses.replace(one, methods=(AblationMethod.zero,))
    assert not any(words in reason for reason in zero.compute().reasons())
    assert not list(zero.check())


def test_what_a_model_to_be_trained_will_not_have_is_told_before():
    built = build_group("analysis/ablation")
    assert not list(built.missing())
    for change, words in (
        ({"silent": ("L9H9",)}, "the model has no node L9H9"),
        ({"silent": ("MLP0N100000",)}, "the model has no node MLP0N100000"),
        ({"neurons": (0, 7)}, "the model has layers 0 to 2, not 7"),
    ):
        assert [problem for _, problem in dataclasses.replace(built, **change).missing()] == [words]
