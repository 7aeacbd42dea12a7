# ruff: noqa: E501, RUF001  # a case a line; signs as the page writes them
"""The pair editor: every operation by the mouse and by the keyboard, and what is impossible in the words of `Impossible`."""

from __future__ import annotations

import pytest

from dtx.app.address import parse

MEMORY = "#1&m=memory1&w=key/left&a=fff&r=.5"
"""Its key, the instruction, is at (1, 2), the targets at (5, 1) and (5, 5), the agent at (1, 3)."""
DOORS = "#1&m=keydoor&w=seed:3&a=r&r=.5"
"""Its door is at (2, 1), its key at (1, 3), the agent at (1, 2)."""


def at(x: int, y: int) -> dict:
    return {"position": [x, y]}


CELLS = [
    ("add", MEMORY, (3, 3), ["green", "box"], [{"op": "add", "type": "box", "at": [3, 3], "colour": "green"}]),
    ("add in a colour", MEMORY, (3, 3), ["purple", "key"], [{"op": "add", "type": "key", "at": [3, 3], "colour": "purple"}]),
    ("add lava", MEMORY, (2, 3), ["lava"], [{"op": "add", "type": "lava", "at": [2, 3]}]),
    ("change type", MEMORY, (1, 2), ["ball"], [{"op": "set_type", "select": at(1, 2), "to": "ball"}]),
    ("change colour", MEMORY, (5, 1), ["blue"], [{"op": "set_colour", "select": at(5, 1), "to": "blue"}]),
    ("change a door", DOORS, (2, 1), ["open"], [{"op": "set_state", "select": at(2, 1), "to": "open"}]),
    ("remove", MEMORY, (5, 5), ["Remove"], [{"op": "remove", "select": at(5, 5)}]),
    ("move the agent here", MEMORY, (3, 3), ["Move the agent here"], [{"op": "move", "select": {"role": "agent"}, "to": [3, 3]}]),
    ("turn the agent", MEMORY, (1, 3), ["face up"], [{"op": "turn", "to": "up"}]),
    ("move a thing", MEMORY, (1, 2), ["Move …", (3, 3)], [{"op": "move", "select": at(1, 2), "to": [3, 3]}]),
    ("move the agent", MEMORY, (1, 3), ["Move the agent …", (2, 3)], [{"op": "move", "select": {"role": "agent"}, "to": [2, 3]}]),
]  # fmt: skip


class ByMouse:
    """Cells are clicked, buttons too."""

    def __init__(self, tab):
        self.tab, self.page = tab, tab.page

    def cell(self, board: str, x: int, y: int) -> None:
        where = self.page.locator(f"[data-id=board-{board}]")
        where.scroll_into_view_if_needed()
        box, columns = where.bounding_box(), int(float(where.get_attribute("viewBox").split()[2]))
        unit = box["width"] / (columns + 0.08)
        self.page.mouse.click(box["x"] + (x + 0.54) * unit, box["y"] + (y + 0.54) * unit)

    def button(self, name: str) -> None:
        self.page.locator("dialog.popover[open]").get_by_role(
            "button", name=name, exact=True
        ).click()

    def token(self, token: str) -> None:
        self.page.locator(f".timeline .line.original button.token[data-token={token}]").click()


class ByKeyboard(ByMouse):
    """Cells are walked to, buttons reached by Tab."""

    def cell(self, board: str, x: int, y: int) -> None:
        where = self.page.locator(f"[data-id=board-{board}]")
        if not where.evaluate("board => board === document.activeElement"):
            self.page.locator("h1").click()
            self.until(f"[data-id=board-{board}]")
        for _ in range(10):  # to the corner, whatever cell it starts from
            self.page.keyboard.press("ArrowLeft")
            self.page.keyboard.press("ArrowUp")
        for key, count in (("ArrowRight", x), ("ArrowDown", y)):
            for _ in range(count):
                self.page.keyboard.press(key)
        said = self.page.locator("#said").text_content()
        assert said.startswith(f"column {x}, row {y}:")
        self.page.keyboard.press("Enter")

    def button(self, name: str) -> None:
        assert self.page.locator("dialog.popover[open]").count()
        for _ in range(40):
            now = "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"
            if self.page.evaluate(now) == name:
                return self.page.keyboard.press("Enter")
            self.page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not lead to {name}")

    def token(self, token: str) -> None:
        self.tab.go(f"{self.tab.fragment.partition('&t=')[0]}&t={token[1:]}")
        self.page.locator("h1").click()
        self.until(f".timeline .line.original button.token[data-token={token}]")
        self.page.keyboard.press("Enter")

    def until(self, selector: str) -> None:
        for _ in range(60):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("s => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"Tab does not lead to {selector}")


HANDS = pytest.mark.parametrize("hand", [ByMouse, ByKeyboard])


def side(explorer, fragment: str):
    """What was played of a link."""
    return explorer.understood(parse(fragment)[0].json()).played


@HANDS
@pytest.mark.parametrize(
    ("start", "cell", "presses", "edits"),
    [case[1:] for case in CELLS],
    ids=[case[0] for case in CELLS],
)
def test_a_cell_of_the_world(page, explorer, hand, start, cell, presses, edits):
    page.go(start)
    by = hand(page)
    by.cell("world", *cell)
    assert page.page.locator("dialog.popover[open] h2").inner_text().startswith(f"Cell {cell}")
    for press in presses:
        by.cell("world", *press) if isinstance(press, tuple) else by.button(press)
    page.settle()
    assert page.scene["edits"] == edits and page.scene["shown"] == "edited"
    played = side(explorer, page.fragment)
    assert played.edited is not None and page.messages == ""
    shown = page.page.locator(".world .made").inner_text()
    assert (
        f"tokens that differ: {' '.join(played.changed)}" in shown
        if played.changed
        else "no token differs" in shown
    )
    assert ("another length" in shown) == (played.original.states != played.edited.states)
    page.page.locator(".world .made li button").first.click()  # take it back
    page.settle()
    assert page.scene["edits"] == []


@HANDS
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("ball", {"type": "ball", "colour": "green"}),
        ("Nothing there", {"type": "empty"}),
        ("Not seen", {"type": "unseen"}),
    ],
)
def test_a_cell_of_the_view_is_marked_as_out_of_distribution(page, hand, name, more):
    page.go(MEMORY)
    by = hand(page)
    by.cell("view", 2, 6)
    assert "Out of distribution" in page.page.locator("dialog.popover[open]").inner_text()
    if "colour" in more:
        by.button(more["colour"])
    by.button(name)
    page.settle()
    assert page.scene["edits"] == [
        {"op": "obs_set", "frame": 3, "view": [2, 6], **more, "ood": True}
    ]
    assert "out of distribution" in page.page.locator(".world .view").inner_text()
    thumb = page.page.locator(".timeline .line.edited .thumb[data-token=S4]")
    assert (
        "out of distribution" in thumb.get_attribute("aria-label")
        and thumb.locator(".warn").count()
    )
    assert not page.page.locator(".timeline .line.edited .thumb[data-token=S3] .warn").count()


@HANDS
def test_another_action_at_a_step(page, explorer, hand):
    page.go(MEMORY)
    by = hand(page)
    by.token("A2")
    by.button("↶ left")
    page.settle()
    assert page.scene["edits"] == [{"op": "set_action", "step": 1, "to": "left"}]
    assert "differs" in page.page.locator(".line.edited [data-token=A2]").get_attribute("class")
    assert "differs" not in page.page.locator(".line.edited [data-token=A1]").get_attribute("class")
    assert side(explorer, page.fragment).edited.actions == (2, 0, 2)


@HANDS
@pytest.mark.parametrize(
    ("where", "edit"),
    [
        ("only here", {"op": "set_rtg", "value": -0.25, "scope": "index", "index": 1}),
        ("at all steps", {"op": "set_rtg", "value": -0.25, "scope": "all"}),
    ],
)
def test_another_reward_to_go(page, explorer, hand, where, edit):
    page.go(MEMORY)
    by = hand(page)
    by.token("R2")
    page.page.locator("dialog.popover input").fill("-0.25")
    by.button(where)
    page.settle()
    assert page.scene["edits"] == [edit]
    given = side(explorer, page.fragment).edited.reward_to_go
    shown = page.page.locator(".line.edited .token.R").all_inner_texts()
    assert [
        abs(float(text.split()[-1].replace("−", "-")) - value) < 0.006
        for text, value in zip(shown, given, strict=True)
    ] == [True] * len(given)


@pytest.mark.parametrize("where", ["memory", "door_key", "dynamic_obstacles"])
def test_declared_edits_are_buttons(page, explorer, where):
    start = {
        "memory": MEMORY,
        "door_key": DOORS,
        "dynamic_obstacles": "#1&m=obstacles&w=seed:4&a=l&r=.5",
    }[where]
    page.go(start)
    for name, operations in explorer.catalogue.places()[where].declared.edits.items():
        button = page.page.locator(f".world [data-id='edit-{name}']")
        assert button.inner_text() == name.replace("_", " ")
        button.click()
        page.settle()
        assert page.scene["edits"] == [dict(operation) for operation in operations]
        assert button.get_attribute("aria-pressed") == "true"
        played = side(explorer, page.fragment)
        told = page.page.locator(".world .made [role=alert]")
        assert (
            told.inner_text() == f"✗ {played.impossible}" if played.impossible else not told.count()
        )
        button.click()
        page.settle()
        assert page.scene["edits"] == [] and button.get_attribute("aria-pressed") == "false"


@HANDS
def test_what_is_impossible_is_told_in_the_words_of_the_operation(page, explorer, hand):
    page.go(MEMORY)
    by = hand(page)
    by.cell("world", 1, 2)
    by.button("Move …")
    by.cell("world", 5, 5)  # where the ball is
    page.settle()
    played = side(explorer, page.fragment)
    assert played.impossible and played.edited is None
    assert page.page.locator(".world .made [role=alert]").inner_text() == f"✗ {played.impossible}"
    by.cell("world", 0, 3)
    assert "The outer wall must stay" in page.page.locator("dialog.popover[open]").inner_text()
    page.press("Escape")
