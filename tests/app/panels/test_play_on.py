import numpy as np
import pytest

from dtx.app.address import parse
from dtx.app.models import Loader
from dtx.app.moment import Moment
from dtx.app.panels import found
from dtx.dt.rollout import rollout
from dtx.errors import UserError

FLIP = "set_type:select.role=instruction:to.ball=key:to.key=ball"
PANEL = found()["play_on"]


def runs(explorer, address: str, **parameters):
    asked = explorer.understood(parse(address)[0].json())
    (moment,) = explorer.moments(asked, Loader())
    *_, (share, data) = PANEL.compute(moment, PANEL.parameters(parameters))
    assert share == 1
    return {(run["side"], run["who"]): run for run in data["runs"]}


@pytest.mark.parametrize("name", ["planted", "memory1", "clone", "leftpad"])
def test_playing_on_from_the_start_is_a_greedy_rollout(name, explorer):
    chosen = explorer.catalogue.choose(name)
    place = explorer.catalogue.places()["memory"]
    model = Loader().model(chosen)
    for layout, world in enumerate(place.worlds):
        run = runs(explorer, f"#1&m={name}&w={world}&r=.9")["original", "as it is"]
        env = place.environment.decision.vector([layout], 0)
        played = rollout(model, env, np.float32([0.9]), seed=0, greedy=True)
        env.close()
        assert run["steps"] == played.length[0]
        assert run["return"] == pytest.approx(float(played.returns[0]), abs=1e-6)


def test_the_planted_model_needs_the_head_that_reads_the_instruction(explorer):
    whole, cut, control = [], [], []
    for world in explorer.catalogue.places()["memory"].worlds:
        found_runs = runs(explorer, f"#1&m=planted&w={world}&a=ff&r=.9", without="L1H0")
        whole.append(found_runs["original", "as it is"]["over"])
        cut.append(found_runs["original", "without L1H0"]["over"])
        other = found_runs["original", "without L1H1"]
        control.append(other["over"])
        assert other["control"]
    assert whole == control == ["success"] * 4
    assert cut == ["limit"] * 4  # neither side: it goes on until the time is over


def test_both_runs_go_on_in_their_own_worlds(explorer):
    both = runs(explorer, f"#1&m=planted&w=key/left&a=ffff&r=.9&e={FLIP}")
    original, edited = (both[side, "as it is"] for side in ("original", "edited"))
    assert (original["actions"], edited["actions"]) == ("lf", "rf")
    assert original["over"] == edited["over"] == "success"


def test_a_push_of_the_whole_difference_makes_the_other_turn(explorer):
    both = runs(explorer, f"#1&m=planted&w=key/left&a=ffff&r=.9&e={FLIP}", push=-1.0)
    assert both["original", "pushed by -1"]["actions"][0] == "r"
    assert both["original", "pushed at random"]["control"]
    with pytest.raises(UserError, match="needs an edit"):
        runs(explorer, "#1&m=planted&w=key/left&a=ffff&r=.9", push=1.0)


def test_a_part_that_is_not_there_is_told_with_the_nearest(explorer):
    with pytest.raises(UserError, match=r"play_on.without: no part 'L1H9' \(did you mean"):
        runs(explorer, "#1&m=planted&w=key/left&r=.9", without="L1H9")


def test_it_ends_where_nobody_waits(explorer):
    asked = explorer.understood(parse("#1&m=memory1&w=key/left")[0].json())
    (moment,) = explorer.moments(asked, Loader(), stop=lambda: True)
    assert isinstance(moment, Moment)
    ((_, data),) = PANEL.compute(moment, PANEL.parameters({}))
    assert data["runs"][0]["actions"] == ""
