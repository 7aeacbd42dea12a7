import numpy as np
import pytest
import torch

from dtx.app.address import parse
from dtx.app.frames import decode, encode
from dtx.app.models import Loader
from dtx.app.moment import tokens, window
from dtx.app.scene import OpenPanel, Scene
from dtx.dt import forward
from dtx.dt.rollout import decision_contexts
from tests.app import small

FIRST = [OpenPanel(name) for name in ("policy", "attention", "lens", "rtg_scan")]
FLIP = "set_type:select.role=instruction:to.ball=key:to.key=ball"


@pytest.fixture
def ask(explorer):
    loader = Loader()

    def asked(text: str, panels=FIRST):
        return decode(encode(explorer.ask(parse(text)[0].json(), panels, loader)))

    return asked


def test_the_planted_model_decides_as_it_was_compiled_to(ask):
    for world, turn in (("key/left", "left"), ("key/right", "right"), ("ball/left", "left")):
        answer = ask(f"#1&m=planted&w={world}&a=ffff&r=.9&e={FLIP}")
        (policy,) = answer["panels"]["policy"]
        data = policy["data"]
        assert data["actions"][data["original"]["probabilities"].argmax()] == turn
        # The other instruction: the other turn.
        assert np.sign(data["original"]["ld"]) == -np.sign(data["edited"]["ld"])
        assert answer["play"]["changed"] == ["S1"]


@pytest.mark.parametrize("name", ["memory1", "memory2", "clone", "leftpad", "plain", "planted"])
def test_every_model_shows_the_numbers_of_the_batch_functions(name, ask, explorer):
    answer = ask(f"#1&m={name}&w=ball/right&a=ffff&r=.5")
    model = Loader().model(explorer.catalogue.choose(name))
    where = explorer.catalogue.places()["memory"]
    with torch.no_grad():
        # The routine up to the decision, as the analyses play it.
        context = decision_contexts(model, where.environment.decision, [0.5])[0][3]
        expected = model(context)[0, -1]
        _, cache = forward.run_with_cache(model, context)
    panels = {panel: cells[0] for panel, cells in answer["panels"].items()}
    np.testing.assert_allclose(panels["policy"]["data"]["original"]["logits"], expected, atol=1e-5)
    np.testing.assert_allclose(
        panels["lens"]["data"]["original"]["logits"][-1], expected, atol=1e-5
    )
    assert panels["lens"]["data"]["check"]["holds"]
    pattern = torch.stack([cache["pattern", i] for i in range(model.cfg.n_layers)])[:, 0]
    np.testing.assert_allclose(panels["attention"]["data"]["original"], pattern, atol=1e-5)
    if model.cfg.reward_to_go:
        scan = panels["rtg_scan"]["data"]
        at = int(np.abs(scan["values"] - 0.25).argmin())
        with torch.no_grad():
            there = decision_contexts(model, where.environment.decision, [scan["values"][at]])[0][3]
            np.testing.assert_allclose(
                scan["original"]["logits"][at], model(there)[0, -1], atol=1e-5
            )
    else:
        assert panels["rtg_scan"]["needs"] == "reward_to_go"


def test_models_stand_side_by_side_and_one_that_does_not_fit_says_why(ask):
    answer = ask("#1&m=memory1~obstacles~clone~nobody&w=key/left&a=f")
    assert [m["id"] for m in answer["models"]] == ["memory1", "obstacles", "clone"]
    assert "has 3 actions" in answer["models"][1]["problem"]
    cells = answer["panels"]["policy"]
    assert "data" in cells[0] and "has 3 actions" in cells[1]["error"] and "data" in cells[2]
    assert answer["panels"]["attention"][2]["data"]["tokens"] == ["S1", "A1", "S2"]
    assert any(m["part"] == "models" and "nobody" in m["problem"] for m in answer["messages"])


def test_tokens_are_named_by_the_steps_of_the_episode():
    model = small.model()
    assert tokens(model, 2).names == ("R1", "S1", "A1", "R2", "S2")
    long = tokens(model, 11).names  # the window has 8 steps: it begins with the fourth
    assert long[:2] == ("R4", "S4") and long[-1] == "S11"
    padded = tokens(small.model(left_padding=True), 2).names
    assert padded[-5:] == ("R1", "S1", "A1", "R2", "S2") and set(padded[:-5]) == {"pad"}


def test_a_windows_tokens_are_as_many_as_their_names(explorer):
    for name in ("memory1", "leftpad", "clone"):
        chosen = explorer.catalogue.choose(name)
        model = Loader().model(chosen)
        for states in (1, 5, 12):
            asked = explorer.understood(Scene(models=(name,), actions="l" * (states - 1)).json())
            run = asked.played.original.run(states)
            assert window(model, run).shape[1] == len(tokens(model, states).names)


def test_wrong_parameters_and_panels_are_told(ask):
    answer = ask(
        "#1&m=memory1&a=f", [OpenPanel("rtg_scan", {"attention": 3}), OpenPanel("nothing")]
    )
    assert "data" in answer["panels"]["rtg_scan"][0]
    assert any("true or false is wanted" in m["problem"] for m in answer["messages"])
    assert "no panel 'nothing'" in answer["panels"]["nothing"][0]["error"]


def test_the_scan_shows_how_far_attention_moves(ask):
    answer = ask(
        "#1&m=planted&w=key/left&a=ffff&r=.9", [OpenPanel("rtg_scan", {"attention": True})]
    )
    moved = answer["panels"]["rtg_scan"][0]["data"]["attention"]
    assert moved["variation"].shape[0] == 21 and moved["variation"][moved["at"]].max() == 0


def test_an_edited_run_that_is_over_before_is_no_pair(ask):
    edit = "set_action:step=4:to=left;set_action:step=5:to=forward"
    answer = ask(f"#1&m=memory1&w=key/right&a=ffffllll&e={edit}")
    play = answer["play"]
    assert play["edited"]["over"] and not play["same_length"]
    assert answer["panels"]["policy"][0]["data"]["edited"] is None


def test_a_state_later_than_the_model_knows_is_told(explorer, tmp_path):
    known = small.entry(tmp_path, "short", "memory,max_steps=30", n_timesteps=6)
    explorer.catalogue.others.append(known)
    explorer.catalogue._state = None
    try:
        answer = explorer.ask(Scene(models=("short",), actions="lllllll").json(), FIRST, Loader())
        assert "knows 6 timesteps; this is state 8" in answer["panels"]["policy"][0]["error"]
    finally:
        explorer.catalogue.others.remove(known)
        explorer.catalogue._state = None


def test_about_names_every_panel_with_its_texts(explorer):
    about = explorer.about()
    assert {m["id"] for m in about["models"]} == {e.id for e in explorer.catalogue.entries()}
    assert {e["id"] for e in about["envs"]} == {"memory", "door_key", "dynamic_obstacles"}
    for panel in about["panels"]:
        assert panel["help"].endswith(".") and panel["control"].endswith(".") and panel["title"]
        module, _, name = panel["source"].rpartition(".")
        assert module.startswith("dtx.") and name
