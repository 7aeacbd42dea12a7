import dataclasses

import pytest

from dtx.analysis.core.inputs import Contrast
from dtx.analysis.core.parts import no_actions, no_contrast, no_layers
from dtx.analysis.steering.spec import Site, Tokens
from dtx.config.compose import build_group
from dtx.env.actions import Action
from tests.dt.toy import tiny

SIZES = dataclasses.replace(tiny().model_config(), n_actions=3)
TURNS = Contrast(pos=Action.left, neg=Action.right)


def test_what_is_there_is_no_problem():
    assert not list(no_layers(SIZES, "layers", (0, 1)))
    assert not list(no_actions(SIZES, "actions", [Action.left, Action.forward]))
    assert not list(no_contrast(SIZES, TURNS))


def test_layers_and_actions_that_are_not_there_are_named():
    (wrong,) = no_layers(SIZES, "layers", (1, 9, 5, 9))
    assert wrong == ("layers", "the model has layers 0 to 1, not 5, 9")
    (wrong,) = no_actions(SIZES, "goal.action", [Action.right, Action.toggle])
    assert wrong == ("goal.action", "the model has no action toggle; it has left, right, forward")
    (wrong,) = no_contrast(SIZES, Contrast(pos=Action.left, neg=Action.done))
    assert wrong[0] == "contrast.neg"


@pytest.mark.parametrize(
    ("analysis", "change", "field"),
    [
        ("ablation", {"silent": ("L9H9",)}, "silent"),
        ("ablation", {"neurons": (99,)}, "neurons"),
        ("ablation", {"contrast": Contrast(pos=Action.toggle, neg=Action.right)}, "contrast.pos"),
        ("attribution", {"contrast": Contrast(pos=Action.left, neg=Action.done)}, "contrast.neg"),
        ("congruence", {"actions": (Action.left, Action.toggle)}, "actions"),
        ("neurons", {"layers": (0, 9)}, "layers"),
        ("neurons", {"named": ("MLP0N100000",)}, "named"),
        ("steering", {"sites": (Site(layer=9, tokens=Tokens.states),)}, "sites"),
    ],
)
@pytest.mark.parametrize("option", ["memory_dt", "planted", "interchange"])
def test_analyses_are_refused_before_the_model_is_made(analysis, change, field, option):
    stage = build_group(f"analysis/{analysis}", [f"dt={option}"])
    sizes = stage.dt.sizes
    assert sizes is not None
    few = dataclasses.replace(sizes, n_actions=3)
    assert not list(stage.misfits(few))
    assert [place for place, _ in dataclasses.replace(stage, **change).misfits(few)] == [field]
