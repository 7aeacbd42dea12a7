import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtx.app.address import LONGEST, address, number, parse
from dtx.app.scene import Scene
from tests.app.scenes import scenes

EXAMPLE = (
    "#1&m=064343ad~7e420bed@135&env=door_key,size=6&w=key/left&a=ffff&r=.892,4:0"
    "&e=set_type:select.role=instruction:to.ball=key:to.key=ball;obs_add:frame=first:view=0,5:type=complement"
    ":ood=true&t=5&c=left-right&p=attention~patching:node=z&v=edited"
)


def test_the_example_of_the_docs_reads_as_it_looks():
    scene, messages = parse(EXAMPLE)
    assert not messages
    assert scene.models == ("064343ad", "7e420bed@135")
    assert (scene.env, scene.world, scene.actions) == ("door_key,size=6", "key/left", "ffff")
    assert (scene.reward_to_go, scene.tokens) == (0.892, {4: 0.0})
    assert scene.edits[0] == {
        "op": "set_type",
        "select": {"role": "instruction"},
        "to": {"ball": "key", "key": "ball"},
    }
    assert scene.edits[1]["view"] == [0, 5] and scene.edits[1]["ood"] is True
    assert (scene.cursor, scene.contrast, scene.shown) == (5, ("left", "right"), "edited")
    assert scene.panels is not None
    assert [(p.name, dict(p.parameters)) for p in scene.panels] == [
        ("attention", {}),
        ("patching", {"node": "z"}),
    ]
    assert address(scene) == EXAMPLE


def test_prompts_and_tokens_that_are_compared_are_percent_encoded():
    prompts = "#1&m=gpt&c=%20Mary-a%2Db&x=When%20Mary,%20and%20100%25%26&y=%23x"
    scene, messages = parse(prompts)
    assert not messages
    assert (scene.text, scene.edited_text) == ("When Mary, and 100%&", "#x")
    assert scene.contrast == (" Mary", "a-b")
    assert address(scene) == prompts


@settings(max_examples=300, deadline=None)
@given(scenes)
def test_a_scene_comes_back_from_its_address(scene):
    text = address(scene)
    assert text.isascii() and " " not in text
    assert parse(text)[0] == scene
    assert address(parse(text)[0]) == text


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=120) | st.text("#&=~:;,.%1maretcpvwxy", max_size=80))
def test_any_text_is_the_address_of_some_scene(text):
    scene, _ = parse(text)
    assert parse(address(scene))[0] == scene


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.892, ".892"), (-0.5, "-.5"), (0.0, "0"), (-0.0, "0"), (3.0, "3"), (1e-5, ".00001"),
        (1.5e-7, "1.5e-7"), (123456.75, "123456.75"), (0.1 + 0.2, ".30000000000000004"), (1000000, "1000000"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_a_browser_writes_them(value, text):
    assert number(value) == text


def test_a_default_scene_has_a_short_address_and_a_long_one_stays_in_bounds():
    assert address(Scene()) == "#1"
    assert len(address(Scene(actions="f" * 2000))) < LONGEST


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("#2&w=key/left", "version"),
        ("#1&zz=7", "zz"),
        ("#1&t=x", "cursor"),
        ("#1&1p~b=x", "unknown"),
        ("#1&e=:::", "edits[0]"),
    ],
)
def test_what_an_address_has_wrong_is_told(text, part):
    scene, messages = parse(text)
    assert part in [m.part for m in messages]
    assert isinstance(scene, Scene)
