"""Settings of steering by which nothing would be edited are refused before anything runs."""

import dataclasses

import pytest

from dtx.analysis.steering.idle import beyond, idle, not_held_out
from dtx.analysis.steering.spec import Site, SteeringMethod, Tokens
from dtx.config.compose import build_group
from dtx.env.actions import Action
from tests.dt.toy import tiny

FAR = (Site(layer=9, tokens=Tokens.last_state), Site(layer=2, tokens=Tokens.states))


@pytest.fixture(scope="module")
def stage():
    return build_group("analysis/steering")


def with_goal(stage, **changes):
    goal = dataclasses.replace(stage.goals["always_look_back"], **changes)
    return dataclasses.replace(stage, goals={"mine": goal})


def held(stage, **changes):
    return dataclasses.replace(stage, held_out=dataclasses.replace(stage.held_out, **changes))


def test_the_defaults_edit_something(stage):
    assert not list(stage.check())


def test_what_changes_nothing_whatever_the_model_is(stage):
    one = stage.arithmetic["ask_more"]
    cases = {
        "arithmetic.mine": {"arithmetic": {"mine": dataclasses.replace(one, reward_to_go=0.0)}},
        "arithmetic.mine.cells": {
            "arithmetic": {"mine": dataclasses.replace(one, cells={"kye (2,6)": 1.0})}
        },
        "descent.learning_rate": {"descent": dataclasses.replace(stage.descent, learning_rate=0.0)},
        "sites": {"sites": ()},
        "descent.sites": {"descent": dataclasses.replace(stage.descent, sites=())},
        "arithmetic": {"arithmetic": {}},
    }
    for field, changes in cases.items():
        assert [place for place, _ in idle(dataclasses.replace(stage, **changes))] == [field]
    (wrong,) = idle(with_goal(stage, only_if="ball (9,9)"))
    assert wrong[0] == "goals.mine.only_if" and "'ball (9,9)' is no cell" in wrong[1]
    without = dataclasses.replace(stage, sites=(), methods=(SteeringMethod.reward_to_go_clamp,))
    assert not list(idle(without))
    assert "alphas" in dict(dataclasses.replace(stage, alphas=(0.0, 0.0)).check())


def test_a_method_whose_sites_are_all_beyond_the_model(stage):
    sizes = tiny().model_config()
    for field in ("sites", "descent.sites"):
        part = "descent" if "." in field else "sites"
        value = dataclasses.replace(stage.descent, sites=FAR) if "." in field else FAR
        ((place, words),) = beyond(dataclasses.replace(stage, **{part: value}), sizes)
        assert place == field and "the model has layers 0 to 1, none of these" in words
    # One of them is there: the others are for larger models.
    some = dataclasses.replace(stage, sites=(*FAR, *stage.sites))
    assert not list(beyond(some, sizes))
    small = dataclasses.replace(sizes, n_actions=3)
    (wrong,) = beyond(with_goal(stage, action=Action.toggle), small)
    assert wrong == (
        "goals.mine.action",
        "the model has no action toggle; it has left, right, forward",
    )


def test_what_holds_nothing_out(stage):
    decision = stage.env.decision
    (wrong,) = not_held_out(held(stage, layouts=("kye/right",)), decision)
    assert wrong == ("held_out.layouts", "no layout 'kye/right' (did you mean 'key/right'?)")
    (wrong,) = not_held_out(held(stage, reward_to_go=(0.3, 0.55)), decision)
    assert wrong[0] == "held_out.reward_to_go" and "no goal asks for 0.55" in wrong[1]
    assert not list(not_held_out(held(stage, layouts=("key/right",)), decision))
    assert not list(not_held_out(stage, None))
