"""What an analysis asks of its model is asked before anything runs."""

from __future__ import annotations

import pytest

from dtx.config.build import ConfigError
from dtx.config.compose import compose, experiment

TOLD = [
    (["ablation"], ["checkpoint=8"], "checkpoint: step 8 is not kept"),
    (["lens"], ["checkpoint=999999"], "checkpoint: step 999999 is not kept"),
    (["ablation"], ["neurons=[0,3]"], "neurons: the model has layers 0 to 2, not 3"),
    (["ablation"], ["silent=[L0H8]"], "silent: the model has no node L0H8"),
    (["ablation"], ["silent=[MLP2N256]"], "silent: the model has no node MLP2N256"),
    (["ablation"], ["silent=[ATTN3]"], "silent: the model has no node ATTN3"),
    (["neurons"], ["layers=[3]"], "layers: the model has layers 0 to 2, not 3"),
    (["neurons"], ["named=[MLP0N256]"], "named: the model has no neuron MLP0N256"),
]
"""Of the default model: 3 layers of 8 heads and 256 neurons, 1000 steps."""


@pytest.mark.parametrize(("names", "settings", "told"), TOLD)
def test_what_the_model_does_not_have_is_told_with_its_place(names, settings, told):
    overrides = [f"analysis.{names[0]}.{setting}" for setting in settings]
    with pytest.raises(ConfigError, match=rf"(?m)^analysis\.{names[0]}\.{told}"):
        experiment(compose([f"analysis=[{names[0]}]", *overrides]))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ablation", ["neurons=[0,2]", "silent=[L2H7,MLP2N255,ATTN2,MLP0]", "checkpoint=1000"]),
        ("neurons", ["layers=[0,2]", "checkpoint=0"]),
        ("neurons", ["named=[MLP2N255]", "checkpoint=1"]),
    ],
)
def test_what_it_has_is_taken(name, settings):
    experiment(compose([f"analysis=[{name}]", *(f"analysis.{name}.{s}" for s in settings)]))


def test_another_environment_than_the_models_is_refused():
    config = compose(["analysis=[neurons]"])
    config.analysis.neurons.env = {
        "_target_": "dtx.env.minigrid.MiniGrid",
        "id": "MiniGrid-Empty-5x5-v0",
        "max_steps": 90,
        "backend": "auto",
    }
    experiment(config)  # windows of it fit, however long its episodes are
    config.analysis.neurons.env = {
        "_target_": "dtx.env.dynamic_obstacles.DynamicObstacles",
        "size": 5,
        "max_steps": 20,
        "random_start": False,
        "backend": "auto",
    }
    with pytest.raises(ConfigError, match=r"neurons.env: the model has 7 actions, but .* has 3"):
        experiment(config)


def test_every_model_of_a_scorecard_is_asked():
    """The templates' own model has what they name; a compiled one has fewer layers and heads."""
    config = compose(["analysis=[scorecard]"])
    names = list(config.analysis.scorecard.analyses)
    assert "ablation" in names
    config.analysis.scorecard.analyses.ablation.silent = ["L2H7"]
    with pytest.raises(
        ConfigError, match=r"analyses\.ablation\.silent: of .*: the model has no node"
    ):
        experiment(config)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["dataset.episodes=2", "dataset.validation=0.99"], "dataset.validation: no episode of 2"),
        (["dt.windows.first_share=0"], "dt.windows.first_share: 0, but no window of 50 steps"),
    ],
)
def test_data_that_give_no_window_are_told(overrides, told):
    with pytest.raises(ConfigError, match=f"(?m)^{told}"):
        experiment(compose(["target=dt", *overrides]))
