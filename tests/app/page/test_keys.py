# ruff: noqa: RUF001  # a case a line; signs as the page writes them
"""Every key does what the list of keys says, a session needs no mouse, and a held key loses no press."""

from __future__ import annotations

import random

import pytest

from tests.app.page.test_panels import FLIP
from tests.app.page.test_true import agree, known

START = "#1&m=memory1&w=key/left&a=fr&r=.5"
OBSTACLES = "#1&m=obstacles&w=seed:4&a=l&r=.5"


def with_parts(**parts):
    """Whether a scene has these parts."""
    return lambda scene: {name: scene[name] for name in parts} == parts


def edited(*names: str):
    """Whether a scene's edits are on these types."""
    return lambda scene: [edit["op"] for edit in scene["edits"]] == list(names)


CASES = [
    ("ArrowLeft", START, with_parts(actions="frl")),
    ("ArrowRight", START, with_parts(actions="frr")),
    ("ArrowUp", START, with_parts(actions="frf")),
    ("p", START, with_parts(actions="frp")),
    ("d", START, with_parts(actions="frd")),
    ("t", START, with_parts(actions="frt")),
    (" ", START, with_parts(actions="frt")),
    ("n", START, with_parts(actions="frn")),
    ("p", OBSTACLES, with_parts(actions="l")),  # it has three actions
    ("Enter", START, lambda scene: len(scene["actions"]) == 3),
    ("s", START, lambda scene: len(scene["actions"]) == 3),
    ("r", f"{START}&t=2", with_parts(actions="", cursor=None)),
    ("[", START, with_parts(cursor=2, actions="fr")),
    ("]", f"{START}&t=1", with_parts(cursor=2)),
    ("]", f"{START}&t=2", with_parts(cursor=None)),
    ("[", f"{START}&t=1", with_parts(cursor=1)),
    (",", START, with_parts(reward_to_go=0.45)),
    (".", START, with_parts(reward_to_go=0.55)),
    ("<", START, lambda scene: scene["reward_to_go"] == pytest.approx(scene["lowest"])),
    (">", START, lambda scene: scene["reward_to_go"] == pytest.approx(scene["highest"])),
    ("<", OBSTACLES, lambda scene: scene["reward_to_go"] == pytest.approx(scene["lowest"])),
    ("i", START, edited("set_type")),
    ("w", START, lambda scene: len(scene["edits"]) > 0),
    ("i", f"{START}&e={FLIP}", edited()),
    ("c", f"{START}&e={FLIP}", with_parts(shown="edited")),
    ("c", f"{START}&e={FLIP}&v=edited", with_parts(shown="original")),
    ("c", START, with_parts(shown="original")),
    ("g", f"{START}&p=lens", lambda scene: {"policy_field", "lens"} == panels(scene)),
    ("g", f"{START}&p=policy_field~lens", lambda scene: {"lens"} == panels(scene)),
]


def panels(scene) -> set[str]:
    return {panel["name"] for panel in scene["panels"]}


@pytest.mark.parametrize(("key", "start", "right"), CASES)
def test_a_key_changes_the_scene_as_said_and_can_be_undone(page, explorer, key, start, right):
    page.go(start)
    before = page.fragment
    page.press(key)
    scene = page.scene
    data = explorer.catalogue.training_data(explorer.catalogue.choose(scene["models"][0]).entry)
    scene |= {"lowest": data.returns.lowest, "highest": data.returns.highest}
    assert right(scene), scene
    after = page.fragment
    if after == before or key == "c":  # which side is looked at is no step of the history
        return
    page.press("u")
    assert page.fragment == before
    page.press("U")
    assert page.fragment == after
    page.press("Backspace")
    assert page.fragment == before


def test_the_model_plays_as_its_probabilities_say_until_the_episode_ends(page):
    page.go("#1&m=planted&w=ball/right&r=.9&p=lens")
    probabilities = page.data("policy")["data"][0]["data"]["original"]["probabilities"]
    best = "lrfpdtn"[probabilities.index(max(probabilities))]
    page.press("Enter")
    assert page.scene["actions"] == best
    page.page.keyboard.press("Shift+Enter")
    page.page.get_by_text("the episode ended with success").wait_for()
    played = page.scene["actions"]
    page.press("Enter", "ArrowLeft")  # it is over: nothing is added
    assert page.scene["actions"] == played and page.messages.count("the rest is left out") <= 1


def test_braces_walk_the_kept_steps_of_training(page, explorer):
    entry = explorer.catalogue.choose("decision_transformer").entry
    name, steps = entry.id, sorted(entry.checkpoints)
    page.go("#1&m=decision_transformer&w=key/left&a=f&r=.9&p=lens")
    finished = page.data("policy")["data"]
    page.press("{")
    assert page.scene["models"] == [f"{name}@{steps[-1]}"]
    assert page.page.get_by_label("step of training").count()
    page.press(*"{" * (len(steps) + 3))
    assert page.scene["models"] == [f"{name}@{steps[0]}"]
    assert page.data("policy")["data"] != finished
    page.press(*"}" * (len(steps) + 3))
    assert page.scene["models"] == [name] and page.data("policy")["data"] == finished


def test_number_keys_open_go_to_and_close_panels(page, explorer):
    page.go("#1&m=memory1&w=key/left&p=")
    buttons = page.page.locator("[data-panel-button]:has(kbd)")
    numbered = buttons.evaluate_all("all => all.map(button => button.dataset.panelButton)")
    assert len(numbered) == 9 and set(numbered) <= set(explorer.panels)
    for number, name in enumerate(numbered, 1):
        page.press(str(number))
        assert name in panels(page.scene)
        page.page.wait_for_selector(f"[data-panel='{name}']:focus")
    for number, name in enumerate(numbered, 1):
        page.panel(name).evaluate("element => element.focus()")
        page.press(str(number))
        assert name not in panels(page.scene)
    assert page.scene["panels"] == []


def test_the_list_of_keys_names_every_key(page):
    page.go(START)
    page.press("?")
    dialog = page.page.get_by_role("dialog", name="Keys")
    text = dialog.inner_text()
    for sign in [*"←→↑pdnsuUr[]{},.<>iwcgf/?", "t or space", "Enter", "Shift Enter", "1 – 9", "⌫"]:
        assert sign in text
    page.press("Escape")
    assert not dialog.is_visible()


@pytest.mark.parametrize("count", [7, 40])
def test_every_press_of_a_held_key_is_a_step_and_the_last_picture_is_the_last_scenes(
    page, explorer, count
):
    page.go("#1&m=memory1&w=key/left&r=.5&p=attention~lens~rtg_scan")
    turns = random.Random(count)
    wanted = ""
    for i in range(count):
        key, letter = turns.choice([("ArrowLeft", "l"), ("ArrowRight", "r"), ("ArrowUp", "f")])
        page.page.keyboard.press(key) if i % 3 else page.page.keyboard.down(key)  # down: it repeats
        wanted += letter
    page.settle()
    assert page.scene["actions"] == wanted
    states = count + 1
    assert page.page.locator(".timeline .step").count() == states
    assert page.page.locator("#world-title").inner_text() == f"World at S{states}"
    for name in ("policy", "attention", "lens", "rtg_scan"):
        file = page.data(name)
        assert file["scene"] == page.fragment
        agree(file["data"], known(explorer, page.fragment, name), 1e-5, name)
    page.press(*"u" * count)
    assert page.scene["actions"] == ""


def test_a_whole_session_by_keyboard_alone(fresh):
    """Choose a model, play, edit, patch, save: no mouse."""
    fresh.open()
    keyboard = fresh.page.keyboard
    fresh.press("/")
    keyboard.type("model planted")
    fresh.press("Enter")
    assert fresh.scene["models"] == ["planted"]
    fresh.press("/")
    keyboard.type("world ball/left")
    fresh.press("Enter")
    assert fresh.scene["world"] == "ball/left"
    fresh.press(*["Enter"] * 4)
    assert fresh.scene["actions"] == "ffff"
    fresh.press("i")
    assert [edit["op"] for edit in fresh.scene["edits"]] == ["set_type"]
    fresh.press("/")
    keyboard.type("panel activation patching")
    fresh.press("Enter")
    fresh.page.wait_for_selector("[data-panel=patching]:focus")
    fresh.settle()
    assert fresh.panel("patching").locator("svg.figure.map").count()
    # A cell of the map, by arrows.
    tab_until(fresh, "svg.map")
    fresh.press("ArrowRight", "ArrowRight")
    said = fresh.page.locator("#said").text_content()
    assert "S1" in said or "A1" in said or "R2" in said
    # The world's cells, by arrows: an edit of the world.
    fresh.press("Escape")
    tab_until(fresh, "[data-id=board-world]", "Shift+Tab")
    fresh.press("ArrowUp", "Enter")
    assert fresh.page.locator("dialog.popover[open]").count()
    tab_until(fresh, "button[aria-label=box]")
    fresh.press("Enter")
    assert len(fresh.scene["edits"]) == 2
    # A file of the panel.
    fresh.press("/")
    keyboard.type("panel activation patching")
    fresh.press("Enter")
    fresh.page.wait_for_selector("[data-panel=patching]:focus")
    tab_until(fresh, "[data-panel=patching] summary.tool")
    fresh.press("Enter")
    tab_until(fresh, "[data-panel=patching] .menu-list button:nth-child(3)")
    with fresh.page.expect_download() as waiting:
        keyboard.press("Enter")
    assert waiting.value.path().read_text().count("\n") > 30


def tab_until(tab, selector: str, key: str = "Tab", most: int = 120) -> None:
    """Go on with the keyboard until an element has the focus."""
    for _ in range(most):
        tab.page.keyboard.press(key)
        if tab.page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{most} presses of {key} do not lead to {selector}")
