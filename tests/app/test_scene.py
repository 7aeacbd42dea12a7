import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtx.app.scene import LETTERS, MOST_ACTIONS, MOST_TEXT, Scene, read
from dtx.env.actions import Action
from tests.app.scenes import anything, scenes

FIELDS = list(Scene().json())


def test_every_action_has_its_letter_in_the_order_of_its_number():
    assert len(set(LETTERS)) == len(LETTERS) == len(Action)
    assert all(letter in action.value for letter, action in zip(LETTERS, Action, strict=True))


@settings(max_examples=300, deadline=None)
@given(scenes)
def test_a_scene_is_what_its_plain_values_say(scene):
    back, messages = read(json.loads(json.dumps(scene.json())))
    assert back == scene
    assert {m.part for m in messages} == set(scene.unknown)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), anything, max_size=8) | anything
)
def test_anything_becomes_a_valid_scene(raw):
    scene, _ = read(raw)
    assert read(scene.json())[0] == scene
    json.dumps(scene.json(), allow_nan=False)


@pytest.mark.parametrize(
    ("part", "value", "problem"),
    [
        ("models", ["a", "b", "c", "d", "e"], "at most 4"),
        ("models", ["../../etc/passwd"], "no model's name"),
        ("env", "_target_: os.system", "a config's name"),
        ("actions", "ffx", "only l r f p d t n are actions"),
        ("actions", "f" * (MOST_ACTIONS + 1), "only the first"),
        ("reward_to_go", float("nan"), "a number is wanted"),
        ("reward_to_go", True, "a number is wanted"),
        ("reward_to_go", 1e9, "larger than"),
        ("tokens", {"0": 1.0}, "steps count from 1"),
        ("tokens", {"2": "x"}, "a number is wanted"),
        ("edits", [{"op": "add", "at": {"x": {"y": {"z": {}}}}}], "no operation"),
        ("edits", [{"op": "add"}] * 17, "only the first 16"),
        ("cursor", 0, "from 1"),
        ("contrast", ["left", "left"], "two different"),
        ("panels", [{"name": "a b"}], "no panel's name"),
        ("panels", [{"name": "lens"}, {"name": "lens"}], "named twice"),
        ("shown", "both", "original or edited"),
        ("text", 5, "a text is wanted"),
        ("text", "a" * (MOST_TEXT + 1), "only the first"),
        ("edited_text", "a\ud800", "halves of characters"),
        ("contrast", ["", "a"], "two different"),
        ("sneaky", 1, "no part of a scene"),
    ],
)
def test_what_is_wrong_is_told_with_its_part(part, value, problem):
    _, messages = read({part: value})
    assert any(m.part.startswith(part) and problem in m.problem for m in messages), messages
