# ruff: noqa: E501  # a case a line; signs as the page writes them
"""Whatever a link or a store says: never a blank page, no script but the page's own; a server that goes comes back."""

from __future__ import annotations

import random
import re
from urllib.parse import quote

import pytest

from dtx.app.asked import Explorer
from dtx.app.models import Catalogue
from tests.app import small
from tests.app.page.driven import server, tab
from tests.app.served import served

PARTS = [
    "1", "2", "m=memory1", "m=planted~clone", "m=nobody", "m=~~~", "m=../../etc", "m=memory1@999", "env=door_key,size=6", "env=door_key,size=1e9",
    "env=_target_", "w=key/left", "w=seed:7", "w=seed:-1", "w=nowhere", "a=ffff", "a=fxyz", f"a={'f' * 3000}", "r=.5", "r=NaN", "r=1e309,4:0", "r=,2:x",
    "e=set_type:select.role=instruction:to.ball=key:to.key=ball", "e=add:type=ball:at=0,0", "e=:::;;;", "e=__proto__:a=1", "e=remove:select.position=1,1",
    "t=3", "t=-1", "t=1e9", "c=left-right", "c=left-left", "c=--", "p=attention~lens", "p=nothing", "p=rtg_scan:attention=perhaps", "p=patching~path_patching:tokens=each", "p=",
    "v=edited", "v=neither", "zoom=3", "=", "&&&", "#", "%", "%zz", "%00", "%F0%9F%A4%96", "<img src=x onerror=window.hurt=1>", "javascript:window.hurt=1", "constructor=1",
]  # fmt: skip


def random_fragments(count: int) -> list[str]:
    """Parts of links, good and bad, in any order, and some texts that are no link at all."""
    draw = random.Random(14)
    found = []
    for _ in range(count):
        if draw.random() < 0.7:
            found.append("#" + "&".join(draw.choices(PARTS, k=draw.randrange(1, 7))))
        else:
            found.append(
                "#"
                + "".join(
                    draw.choices("1&=~:;,.%#<>\"'()@abmwretcpv{}[]\\ é🤖", k=draw.randrange(1, 60))
                )
            )
    return found


@pytest.mark.parametrize("count", [80, pytest.param(600, marks=pytest.mark.slow)])
def test_whatever_a_link_says_the_page_shows_a_scene_and_tells_what_was_wrong(page, count):
    page.go("#1&m=memory1&w=key/left&p=attention")
    told = 0
    for fragment in random_fragments(count):
        page.page.evaluate("fragment => { location.hash = fragment; }", fragment)
        page.page.evaluate("() => new Promise(resolve => setTimeout(resolve, 0))")
        page.settle(all=False)
        seen = page.page.evaluate(
            """() => [document.querySelectorAll(".board").length, document.querySelectorAll(".timeline .step").length,
              document.querySelector("[data-panel=policy] svg.figure") !== null || document.querySelector("[data-panel=policy] .note") !== null,
              document.querySelector(".messages").textContent, window.hurt ?? null]"""
        )
        assert seen[0] == 2 and seen[1] >= 1 and seen[2] and seen[4] is None, (fragment, seen)
        told += bool(seen[3])
        assert page.errors == [], (fragment, page.errors)
    assert told > count / 3
    page.go("#1&m=memory1&w=key/left&p=attention")
    assert page.messages == ""


@pytest.mark.parametrize(
    "fragment",
    [
        "#1&m=nobody&w=key/left",
        "#1&w=nowhere",
        "#1&t=x",
        "#2&m=memory1",
        "#1&p=nothing",
        "#1&zoom=3",
    ],
)
def test_a_link_opened_in_a_new_tab_tells_what_is_wrong(fresh, fragment):
    fresh.open(fragment)
    assert len(fresh.messages) > 10
    assert fresh.panel("policy").locator("svg.figure").count()


HURTS = "<img src=x onerror=window.hurt=1><script>window.hurt=1</script>\"'>&lt;b&gt;"


def test_markup_in_a_stores_labels_and_in_links_is_shown_as_text(chromium, tmp_path):
    entries = [
        small.entry(tmp_path, "first", "memory", HURTS),
        small.entry(tmp_path, "second", "memory", f"second {HURTS}", seed=2),
    ]
    with (
        served(server(Explorer(Catalogue(None, others=entries)))) as port,
        tab(chromium, f"http://127.0.0.1:{port}/") as one,
    ):
        one.open(
            "#1&m=first~second&w=key/left&a=f&e=set_rtg:value=0:scope=all&p=attention~rtg_scan~lens"
        )
        one.press("1", "/")
        one.page.keyboard.type("<img")
        one.press("Escape", "Enter")
        for hostile in (
            f"#1&m={quote(HURTS)}",
            f"#1&w={quote(HURTS)}",
            f"#1&e=add:type={quote(HURTS)}:at=1,2",
            f"#1&{HURTS}",
            f"#1&p=lens:x={quote(HURTS)}",
            f"#1&m=first&c={quote(HURTS)}-left",
        ):
            one.go(hostile)
        assert one.page.evaluate("window.hurt ?? null") is None
        assert not one.page.locator(
            "img, main script, dialog script, iframe, object, embed"
        ).count()
        assert "<img src=x" in one.page.locator("select.model").inner_text()
        assert one.errors == []


def test_the_page_says_that_the_server_is_gone_and_goes_on_when_it_is_back(chromium, explorer):
    with served(server(explorer)) as port:
        context = tab(chromium, f"http://127.0.0.1:{port}/")
        one = context.__enter__()
        one.open("#1&m=memory1&w=key/left&a=f&p=attention")
    try:
        one.page.keyboard.press("ArrowUp")
        one.page.get_by_text("The server does not answer").wait_for()
        one.page.keyboard.press("ArrowLeft")
        with served(server(explorer), port) as again:
            assert again == port
            one.settle()
            assert one.scene["actions"] == "ffl"
            assert one.data("attention")["data"][0]["data"]["tokens"][-1] == "S4"
            one.page.get_by_text("The server does not answer").wait_for(state="hidden")
        # The browser itself notes requests that found no server; nothing else went wrong.
        assert [
            e for e in one.errors if not re.match("Failed to load resource: net::ERR_CONN", e)
        ] == []
    finally:
        context.__exit__(None, None, None)
