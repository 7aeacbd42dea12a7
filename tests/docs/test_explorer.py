"""What docs/explorer.md says: its panels, its addresses, its panel of one's own, its walk."""

import json
import re

import numpy as np
import pytest

from dtx.app import demo
from dtx.app.address import parse
from dtx.app.asked import Explorer
from dtx.app.models import Catalogue, Loader
from dtx.app.panels import found
from dtx.app.scene import LETTERS, OpenPanel
from tests.docs.pages import ROOT, blocks

PAGE = (ROOT / "docs" / "explorer.md").read_text()
LINKS = re.findall(r"http://127\.0\.0\.1:5050/(#[^)]+)\)", PAGE)


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """Data of a panel of the model that ships."""
    explorer = Explorer(Catalogue(None, None, demo.entries(tmp_path_factory.mktemp("shipped"))))
    loader = Loader()

    def asked(address: str, panel: str):
        scene, messages = parse(address)
        assert not messages
        opened = OpenPanel(panel)
        if explorer.panels[panel].when == "long":
            *_, (_, answer) = explorer.long(scene.json(), opened, loader, lambda: False)
        else:
            answer = explorer.ask(scene.json(), [opened], loader)
        assert not answer["messages"]
        return answer["panels"][panel][0]["data"], answer["play"]

    return asked


def test_every_panel_is_in_the_table_with_its_own_words():
    for panel in found().values():
        about = panel.about()
        assert f"| {about['title']} | {about['help']} | {about['control']} |" in PAGE, panel.name


def test_what_was_measured_is_on_record_and_within_what_is_allowed():
    lines = json.loads((ROOT / "benchmarks" / "explorer.json").read_text())["lines"]
    assert PAGE.endswith("\n".join(lines) + "\n")
    assert not any("exceeded" in line for line in lines)
    (key,) = (line for line in lines if "`dtx app`" in line)
    median = float(key.split("|")[2])
    assert f"a key costs {median:.0f} ms" in PAGE
    (patching,) = (line for line in lines if line.startswith("- patching"))
    found = re.search(r"([\d.]+) times \(allowed: ([\d.]+)\)", patching)
    assert found and float(found[1]) <= float(found[2])


def test_every_link_is_a_whole_scene(ask):
    assert len(LINKS) >= 6
    for link in LINKS:
        data, _ = ask(link, "policy")
        assert data["original"]["ld"]


def test_a_walk_of_the_routine_succeeds_surely(ask):
    actions, entropy = "", []
    for _ in range(6):
        data, _ = ask(f"{LINKS[0]}&a={actions}" if actions else LINKS[0], "policy")
        entropy.append(data["original"]["entropy"])
        actions += LETTERS[int(np.argmax(np.asarray(data["original"]["probabilities"])))]
    assert actions == "fffflf"
    assert ask(f"{LINKS[0]}&a={actions}", "policy")[1]["original"]["over"] == "success"
    assert round(max(entropy), 3) == 0.011 and "at most .011 nats" in PAGE


def test_the_walk_says_what_the_explorer_shows(ask):
    data, play = ask(LINKS[1], "policy")
    assert play["changed"] == ["S1"]
    said = (round(data["original"]["ld"], 2), round(data["edited"]["ld"], 2))
    assert said == (8.85, -9.11) and "goes from 8.85 to -9.11" in PAGE
    at_zero = ask(LINKS[2], "policy")[0]
    right = float(
        np.asarray(at_zero["original"]["probabilities"])[at_zero["actions"].index("right")]
    )
    assert round(right, 2) == 0.67 and "with probability .67" in PAGE
    for world, share in (("key/left", 0.97), ("ball/left", 0.01)):
        data, _ = ask(LINKS[3].replace("key/left", world), "attention")
        assert round(float(data["original"][0, 0, -1, data["tokens"].index("S1")]), 2) == share
    ablated, _ = ask(LINKS[3], "ablation")
    without = ablated["original"]["ablated"][ablated["nodes"].index("L0H0")]
    assert round(float(without), 2) == -4.2 and "the difference is -4.20" in PAGE
    patched, _ = ask(LINKS[5], "patching")
    rho = dict(zip(patched["rows"], np.round(patched["rho"], 2), strict=True))
    first, second = (dict(zip(patched["tokens"], rho[row], strict=True)) for row in patched["rows"])
    assert first["S1"] == 1.0 and max(second.values()) == second["S5"] == 0.17
    assert "(rho 1.00)" in PAGE and "more than .17 (`S5`)" in PAGE


def test_the_panel_of_ones_own_works(tmp_path, ask):
    files = {block.file: block.text for block in blocks(PAGE) if block.file}
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    assert set(files) == {"mine/stream_size.py", "mine/stream_size.js"}
    (shipped := tmp_path / "shipped").mkdir()
    own = Explorer(Catalogue(None, None, demo.entries(shipped)), panels=tmp_path / "mine")
    for parameters in ({}, {"squared": True}):
        answer = own.ask(
            parse(LINKS[1])[0].json(), [OpenPanel("stream_size", parameters)], Loader()
        )
        (cell,) = answer["panels"]["stream_size"]
        assert len(cell["data"]["original"]) == len(cell["data"]["points"]) == 3
