import pytest

from dtx.app.places import of_environment, place, world_at_start
from dtx.errors import UserError


@pytest.mark.parametrize(
    "id",
    [
        "memory",
        "memory,size=9",
        "door_key,size=6",
        "dynamic_obstacles",
        "minigrid,id=MiniGrid-Empty-5x5-v0",
    ],
)
def test_an_environment_has_one_id(id):
    known = place(id)
    assert known.id == id
    assert of_environment(known.environment) == known
    about = known.about()
    assert about["n_actions"] == len(known.actions) and set(about["contrast"]) <= set(known.actions)
    assert world_at_start(known, known.known("")).grid.width


def test_declared_edits_and_contrasts_come_from_the_pairs_files():
    edits = {
        name: [e["name"] for e in place(name).about()["edits"]]
        for name in ("memory", "door_key", "minigrid")
    }
    assert edits["memory"] == ["instruction_flip", "swap_targets", "rtg_zero", "decoy"]
    assert "door_open" in edits["door_key"] and edits["minigrid"] == []
    assert place("dynamic_obstacles").declared.contrast == ("forward", "left")


@pytest.mark.parametrize(
    ("id", "problem"),
    [
        ("memry", "did you mean 'memory'"),
        ("memory,sze=9", "did you mean 'size'"),
        ("memory,size=8", "no size of Memory"),
        ("memory,size=${oc.env:HOME}", "no plain value"),
        ("memory,_target_=os.system", "no field '_target_'"),
        ("../conf/env/memory", "no environment"),
        ("minigrid,id=MiniGrid-Nowhere-v0", "unknown environment"),
    ],
)
def test_what_is_no_environment_is_told(id, problem):
    with pytest.raises(UserError, match=problem):
        place(id)


def test_worlds_go_by_name():
    memory = place("memory")
    assert memory.known("") == "key/left" and memory.known("seed:3") == "seed:3"
    with pytest.raises(UserError, match="key/left"):
        memory.known("key/lft")
    assert place("door_key").known("") == "seed:0"
