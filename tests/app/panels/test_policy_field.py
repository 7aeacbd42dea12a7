import numpy as np
import pytest

from dtx.analysis.psychology.measure import policies
from dtx.analysis.psychology.poses import reach
from tests.app.panels.conftest import FLIP, KEY_LEFT


@pytest.mark.parametrize("name", ["memory1", "clone", "leftpad", "planted"])
def test_policies_are_those_of_the_batch_function(name, ask, moment):
    text = f"#1&m={name}&{KEY_LEFT}&e={FLIP}"
    (cell,) = ask(text, "policy_field")
    data, here = cell["data"], moment(text)
    decision = here.environment.decision
    poses = reach(decision, here.cfg.n_steps - 1)
    probability = policies(here.model, poses, [0.9])[0]
    for side, layout in (("original", "key/left"), ("edited", "ball/right")):
        own, y = data[side], decision.layouts.index(layout)
        place = {tuple(pose): p for p, pose in enumerate(own["pose"].tolist())}
        assert set(poses.pose) <= set(place)
        chosen = [place[pose] for pose in poses.pose]
        np.testing.assert_allclose(own["probability"][chosen], probability[y], atol=1e-5)
        assert (own["best"] == own["probability"].argmax(-1)).all()
        here_it_decides = own["pose"][own["decision"].astype(bool)]
        assert len(here_it_decides) == 1
        steps = own["steps"][own["decision"].astype(bool)]
        assert steps.tolist() == [decision.step]
    assert data["check"]["holds"]


def test_the_planted_model_turns_where_it_decides(ask):
    (cell,) = ask(f"#1&m=planted&{KEY_LEFT}&e={FLIP}", "policy_field")
    data = cell["data"]
    turns = []
    for side in ("original", "edited"):
        at = int(np.flatnonzero(data[side]["decision"])[0])
        turns.append(data["actions"][data[side]["best"][at]])
    assert turns == ["left", "right"]


def test_each_run_is_asked_for_its_own_reward_to_go(ask):
    (cell,) = ask(f"#1&m=memory1&{KEY_LEFT}&e=set_rtg:value=0:scope=all", "policy_field")
    (other,) = ask("#1&m=memory1&w=key/left&a=ffff&r=0", "policy_field")
    edited, alone = cell["data"]["edited"], other["data"]["original"]
    assert cell["data"]["original"]["reward_to_go"] == pytest.approx(0.9)
    assert edited["reward_to_go"] == alone["reward_to_go"] == 0
    np.testing.assert_allclose(edited["probability"], alone["probability"], atol=1e-6)
    assert not np.allclose(edited["probability"], cell["data"]["original"]["probability"])


def test_worlds_without_a_decision_have_a_field_and_moving_ones_say_why_not(ask):
    (cell,) = ask("#1&m=keydoor&w=seed:3&r=.5", "policy_field")
    data = cell["data"]
    assert not data["original"]["decision"].any() and len(data["original"]["pose"]) > 4
    (cell,) = ask("#1&m=obstacles&w=seed:1", "policy_field")
    assert "move by themselves" in cell["error"] and "\n" not in cell["error"]
