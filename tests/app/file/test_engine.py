"""The engine in the page against Python, in a browser: models, worlds, panels, the check of itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dtx.app.asked import Explorer
from dtx.app.file.contents import Contents, Wanted, contents
from dtx.app.models import Loader
from dtx.app.onefile import assembled, one_file
from dtx.app.places import place
from dtx.app.scene import LETTERS, OpenPanel, Scene
from tests.app.file.opened import Opened, differences, opened
from tests.app.file.subjects import ARCHITECTURES, explorer
from tests.browser import browser_lacks

pytestmark = pytest.mark.skipif(bool(browser_lacks()), reason=browser_lacks())
COMPUTED = ("policy", "attention", "lens", "rtg_scan", "policy_field", "ablation")
MODELS = tuple(ARCHITECTURES)


@pytest.fixture(scope="module")
def memory(tmp_path_factory) -> Explorer:
    return explorer(tmp_path_factory.mktemp("memory"), place("memory"))


@pytest.fixture(scope="module")
def carried(memory) -> Contents:
    edits = list(place("memory").declared.edits.values())
    return contents(memory, Wanted(Scene(models=MODELS[:1]), models=MODELS, edits=edits))


@pytest.fixture(scope="module")
def page(memory, carried, tmp_path_factory) -> Opened:
    with opened(assembled(memory.panels, carried.frame), tmp_path_factory.mktemp("page")) as file:
        file.engine()
        yield file


def test_the_engine_has_pytorchs_logits_of_all_architectures(page):
    for options in ({}, {"plain": True}, {"alone": True}):
        checked = page.engine(**options)
        assert checked["windows"] == 32 * len(MODELS)
        assert 0 < checked["error"] < 2e-5, options
        assert checked["holds"]
        assert checked["text"].startswith("checked against PyTorch here: ")
        assert page.where == ("page" if "alone" in options else "worker")
    page.engine()


_WATCHED = """(() => {
  globalThis.made = [];
  const Plain = globalThis.Worker;
  globalThis.Worker = class extends Plain {
    constructor(...given) {
      if (made.length === %d) throw new Error("no more workers");
      super(...given);
      this.sent = [];
      made.push(this);
    }
    postMessage(message) {
      this.sent.push(message.message.open ? ["open"] : message.message.ask.panels.map(({name}) => name));
      super.postMessage(message);
    }
  };
  globalThis.unwatched = () => { globalThis.Worker = Plain; };
})()"""
"""Notes what each worker is asked; more than so many cannot be made."""


@pytest.mark.parametrize("workers", [2, 1])
def test_no_key_waits_for_a_slow_panel_where_there_can_be_two_workers(page, workers):
    scene = Scene(models=MODELS[:1], actions="ff")
    page.page.js(_WATCHED % workers)
    try:
        page.engine()
        answers = [page.ask(scene, [name]) for name in ("policy", "rtg_scan", "policy")]
        sent = page.page.js("made.map((worker) => worker.sent)")
    finally:
        page.page.js("unwatched()")
        page.engine()
    keys, slow = [["policy"], ["policy"]], [["rtg_scan"]]
    if workers == 2:
        assert sent == [[["open"], *keys], [["open"], *slow]]
    else:  # the first does all
        assert sent == [[["open"], keys[0], *slow, keys[1]]]
    assert all(
        cell["data"] for each in answers for cells in each["panels"].values() for cell in cells
    )


def random_scene(rng: np.random.Generator, where: str = "memory", letters: str = LETTERS) -> Scene:
    """Mostly on the way somewhere; sometimes with an edit, single tokens, or the cursor back in time."""
    there = place(where)
    steps = int(rng.integers(0, 12))
    likely = rng.random(steps) < 0.6
    actions = "".join("f" if ahead else str(rng.choice(list(letters))) for ahead in likely)
    edits = list(there.declared.edits.values())
    chosen = rng.permutation(MODELS)[: rng.integers(1, 4)]
    return Scene(
        models=tuple(map(str, chosen)),
        world=str(rng.choice(there.worlds)) if there.worlds else "seed:0",
        actions=actions,
        reward_to_go=float(rng.choice([0.0, 0.892, -0.5, 1.25])),
        tokens={int(rng.integers(1, 6)): float(rng.normal())} if rng.random() < 0.3 else {},
        edits=tuple(edits[rng.integers(len(edits))]) if rng.random() < 0.6 else (),
        cursor=int(rng.integers(1, 8)) if rng.random() < 0.3 else None,
    )


def test_panels_and_runs_are_those_of_python(page, memory):
    rng, loader = np.random.default_rng(0), Loader()
    panels = [
        OpenPanel(name, {"attention": True} if name == "rtg_scan" else {}) for name in COMPUTED
    ]
    kinds = set()
    for _ in range(25):
        scene = random_scene(rng)
        own = page.ask(scene, COMPUTED, rtg_scan={"attention": True})
        theirs = memory.ask(scene.json(), panels, loader)
        for part in ("scene", "messages", "play", "panels"):
            assert list(differences(own[part], theirs[part], 1e-4, part)) == [], scene
        kinds |= {op["op"] for op in scene.edits} | {own["play"]["original"]["over"]}
    assert {"set_type", "exchange", "set_rtg", "obs_add", "failure", None} <= kinds


def test_windows_that_grow_by_keys_give_the_numbers_of_whole_ones(page, memory):
    """The engine keeps what it computed of earlier tokens: keys, edits and the cursor in any order."""
    rng, loader = np.random.default_rng(2), Loader()
    edits = list(place("memory").declared.edits.values())
    names = ("policy", "attention", "lens")
    panels = [OpenPanel(name) for name in names]
    for model in MODELS:
        scene = Scene(models=(model,), world="key/left", reward_to_go=0.9)
        for _ in range(14):
            move = rng.choice(["key", "key", "key", "back", "edit", "undo", "asked"])
            if move == "key":
                letter = str(rng.choice(list("lrrff")))
                scene = scene.replace(actions=scene.actions + letter, cursor=None)
            elif move == "back":
                scene = scene.replace(cursor=int(rng.integers(1, len(scene.actions) + 2)))
            elif move == "edit":
                edit = edits[int(rng.integers(len(edits)))]
                scene = scene.replace(edits=() if scene.edits else tuple(edit))
            elif move == "undo":
                scene = scene.replace(actions=scene.actions[:-1], cursor=None)
            else:
                scene = scene.replace(reward_to_go=float(rng.choice([0.9, 0.2])))
            opened_panels = names[: int(rng.integers(1, 4))]
            own = page.ask(scene, opened_panels)
            theirs = memory.ask(scene.json(), panels[: len(opened_panels)], loader)
            assert list(differences(own["panels"], theirs["panels"], 1e-4, "panels")) == [], scene


def test_random_walks_are_those_of_minigrid_to_the_end(page, memory):
    rng = np.random.default_rng(1)
    ends = set()
    for _ in range(20):
        actions = "".join(rng.choice(list(LETTERS), 60, p=[0.2, 0.2, 0.4, 0.05, 0.05, 0.05, 0.05]))
        scene = Scene(
            models=("clone",), world=str(rng.choice(place("memory").worlds)), actions=actions
        )
        own = page.ask(scene, [])["play"]
        theirs = memory.ask(scene.json(), [], Loader())["play"]
        assert list(differences(own, theirs, 0, "play")) == []
        ends.add(own["original"]["over"])
    assert ends == {"success", "failure", "limit"}


def test_no_request_is_made_and_nothing_is_said_on_the_console(page):
    page.ask(Scene(), COMPUTED)
    asked = [url for url in page.page.asked if not url.startswith("data:")]
    assert asked == [page.file.as_uri()]
    assert page.page.errors == []


def test_what_the_file_does_not_have_is_said(page):
    scene = Scene(
        models=("other", "clone"), env="door_key", world="seed:3", contrast=("up", "down")
    )
    answer = page.ask(scene, ["policy", "rtg_scan", "nothing"])
    assert [m["part"] for m in answer["messages"]] == ["models", "env", "world", "contrast"]
    assert answer["scene"]["models"] == ["clone"]
    assert "data" in answer["panels"]["policy"][0]
    assert answer["panels"]["rtg_scan"][0]["needs"] == "reward_to_go"
    assert "no panel" in answer["panels"]["nothing"][0]["error"]
    removed = Scene(edits=({"op": "remove", "select": {"role": "target"}},))
    assert "dtx app plays it" in page.ask(removed, [])["play"]["impossible"]


def test_a_scene_in_which_nothing_is_chosen_is_the_files_own(page):
    assert page.ask(Scene(), [])["scene"]["models"] == ["usual"]


def changed(carried: Contents, bit: int) -> Contents:
    """The contents with one bit of the first model's weights changed."""
    first, *rest = carried.values["models"]
    weights = first["weights"].copy()
    weights[len(weights) // 2] ^= bit
    values = {**carried.values, "models": [{**first, "weights": weights}, *rest]}
    return dataclasses.replace(carried, values=values)


@pytest.mark.parametrize("bit", [1, 64])
def test_one_changed_bit_of_the_weights_is_noticed(memory, carried, tmp_path, bit):
    with opened(assembled(memory.panels, changed(carried, bit).frame), tmp_path) as file:
        checked = file.engine()
        assert not checked["holds"]
        assert checked["text"] == "this file must not be believed: weights of usual were changed"
        answer = file.ask(Scene(), ["policy"])
        assert answer["panels"]["policy"] == [{"error": checked["text"]}]


def test_a_file_that_was_damaged_on_its_way_is_refused(memory, carried, tmp_path):
    text = assembled(memory.panels, carried.frame)
    middle = text.index('id="dtx-contents"') + 5000
    other = "A" if text[middle] != "A" else "B"
    damaged = text[:middle] + other + text[middle + 1 :]
    refused = pytest.raises(RuntimeError, match="must not be believed: it is damaged")
    with opened(damaged, tmp_path) as file, refused:
        file.engine()


def test_float16_is_near_and_half_the_size(memory, carried, tmp_path):
    wanted = Wanted(Scene(models=("usual",)), precision="float16")
    half = one_file(memory, wanted)
    whole = one_file(memory, dataclasses.replace(wanted, precision="float32"))
    sizes = [len(f.contents.values["models"][0]["weights"]) for f in (half, whole)]
    assert sizes[0] * 2 == sizes[1] and half.size < whole.size
    with opened(half.text, tmp_path) as file:
        checked = file.engine()
    assert checked["holds"] and 1e-5 < checked["error"] < 1e-2


def test_panels_that_only_python_computes_are_there_for_the_scenes_that_were_asked_for(
    memory, tmp_path
):
    edits = tuple(place("memory").declared.edits["instruction_flip"])
    scene = Scene(models=("usual",), world="key/left", actions="fff", edits=edits)
    other = scene.replace(actions="ff")
    frozen = ("attribution", "patching")
    wanted = Wanted(scene, worlds=["key/left"], frozen=frozen, scenes=[other])
    made = one_file(memory, wanted)
    with opened(made.text, tmp_path) as file:
        file.engine()
        for asked in (scene, other):
            own, loader = file.ask(asked, frozen), Loader()
            direct = memory.ask(asked.json(), [OpenPanel("attribution")], loader)["panels"]
            *_, (_, last) = memory.long(asked.json(), OpenPanel("patching"), loader, lambda: False)
            theirs = {**direct, "patching": last["panels"]["patching"]}
            assert list(differences(own["panels"], theirs, 1e-4, "panels")) == []
        elsewhere = file.ask(scene.replace(actions="f"), frozen)["panels"]["attribution"][0][
            "error"
        ]
        assert "open this scene by dtx app" in elsewhere and "a=fff" in elsewhere
