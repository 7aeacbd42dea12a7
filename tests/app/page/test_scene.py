"""The page reads and writes addresses as Python does."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtx.app.address import address, parse
from tests.app.page import browser
from tests.app.scenes import scenes
from tests.app.test_address import EXAMPLE

READ = """async texts => {
  const {parse, address} = await import("./scene.js");
  return texts.map(text => {
    const {scene, messages} = parse(text);
    return [JSON.stringify(scene), messages.map(message => message.part), address(scene)];
  });
}"""


@pytest.fixture(scope="module")
def page(chromium):
    with browser.modules(chromium) as page:
        yield page


def both(page, texts: list[str]) -> None:
    """Hold the page's reading of addresses against Python's."""
    for text, (scene, parts, again) in zip(texts, page.evaluate(READ, texts), strict=True):
        known, messages = parse(text)
        assert json.loads(scene) == json.loads(json.dumps(known.json())), text
        assert set(parts) == {message.part for message in messages}, text
        assert again == address(known), text


def test_the_example_of_the_docs(page):
    both(
        page,
        [EXAMPLE, EXAMPLE.removeprefix("#"), f"http://127.0.0.1:8000/{EXAMPLE}", "", "#", "#1"],
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(scenes, min_size=10, max_size=10))
def test_a_thousand_scenes(page, some):
    both(page, [address(scene) for scene in some])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=120) | st.text("#&=~:;,.%1maretcpvw", max_size=80), max_size=40))
def test_any_text(page, texts):
    both(page, texts)


@pytest.mark.parametrize(
    "text",
    [
        "#2&w=key/left", "#1&t=x", "#1&t=5.0", "#1&t=0", "#1&e=:::", "#1&e=add:at=1,2;:op=true",
        "#1&r=1e9,0:1,3:x", "#1&m=a~b~c~d~e~~", "#1&c=left-left", "#1&p=", "#1&p=a~a:x=1~9", "#1&v=both",
        "#1&__proto__=1&constructor=2", "#1&e=set_type:select.__proto__.x=1:to=key", "#1&w=%FF&env=%zz",
        "#1&a=fxf%66", "#1&p=lens:a=%74rue:b=1,2:c=x%7Ey", "#1&x=a%0Ab%20~&y=%F0%9F%98%80&c=%20a-b%2Dc~",
    ],
)  # fmt: skip
def test_what_is_wrong(page, text):
    both(page, [text])
