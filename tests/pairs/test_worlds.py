"""Worlds by name: layouts, seeds, and those of sampled ones."""

from __future__ import annotations

import numpy as np
import pytest

from dtx.config.compose import build_group
from dtx.env.roles import world_of
from dtx.pairs.worlds import name_of, named_world, other_worlds, worlds
from tests.pairs.build import declared, errors_of, made, model


def state(world) -> tuple:
    """All that decides how a world goes on."""
    place = tuple(int(x) for x in world.agent_pos), int(world.agent_dir)
    return world.grid.encode().tobytes(), *place, str(world.np_random.bit_generator.state)


@pytest.mark.parametrize("names", [["ball/left"], ["ball/right", "key/left"]])
def test_a_named_layout_is_the_same_world_as_among_all(names):
    every = dict(worlds(declared("memory", dataset=None)))
    some = worlds(declared("memory", dataset=None, source__variants=names))
    assert [name for name, _ in some] == names
    for name, world in some:
        assert state(world) == state(every[name])


@pytest.mark.parametrize("option", ["memory", "door_key", "dynamic_obstacles"])
def test_a_seed_is_the_world_that_minigrid_makes_with_it(option):
    env = build_group(f"env/{option}")
    made = env.make()
    for seed in (17, 0, 2**40):
        made.reset(seed=seed)
        assert state(named_world(env, f"seed:{seed}")) == state(world_of(made))


def test_sampled_worlds_have_a_name_by_which_they_are_found():
    spec = declared("door_key", dataset=None, source__variants=4)
    for name, world in worlds(spec):
        assert state(named_world(spec.env, name_of(spec, name))) == state(world)
    spec = declared("memory", dataset=None)
    assert name_of(spec, "key/left") == "key/left"


def test_named_worlds_make_the_pairs_that_they_make_among_all(tmp_path):
    every = made(declared("memory", dataset=None), tmp_path / "all")
    names = ["key/left", "ball/left"]
    some = made(declared("memory", dataset=None, source__variants=names), tmp_path / "some")
    for pairs in (every, some):
        rows = pairs.table[pairs.table["kind"] == "edit"]
        rows = rows[rows["variant"].isin(names)]
        assert len(rows) == 14
        seen = [pairs.runs["observation"][rows[side]] for side in ("clean", "corrupt")]
        if pairs is every:
            expected = seen
    assert all(np.array_equal(a, b) for a, b in zip(seen, expected, strict=True))
    (batch,) = some.batches(model())
    assert set(batch.table["variant"]) == set(names)


@pytest.mark.parametrize(
    ("option", "names", "words"),
    [
        ("memory", ["key/lefd"], "no layout 'key/lefd' (did you mean 'key/left'?)"),
        ("memory", ["key/left", "key/left"], "'key/left' is named twice"),
        ("memory", ["seed:-1"], "'seed:-1' is no seed; a whole number is wanted, as in seed:17"),
        ("memory", ["seed:" + "9" * 30], "is too large a seed"),
        ("memory", [17], "no layout 17"),
        ("memory", [["key/left"]], "no layout ['key/left']"),
        ("memory", [], "is empty; name worlds"),
        ("memory", "key/left", "a list of names is wanted, not 'key/left'"),
        ("memory", True, "not True"),
        ("door_key", ["key/left"], "DoorKey has no layouts, so no 'key/left'; name seeds"),
    ],
)
def test_a_name_that_is_none_is_told_in_a_line(option, names, words):
    errors = errors_of(option, dataset=None, source__variants=names)
    assert words in errors["pairs.source.variants"]
    assert "\n" not in errors["pairs.source.variants"]


def test_names_can_be_given_on_the_command_line():
    override = "pairs.source.variants=[seed:17,key/left]"
    stage = declared("memory", override, dataset=None)
    assert list(stage.source.variants) == ["seed:17", "key/left"]
    assert stage.runs == 4


def test_donors_come_from_the_other_layouts_or_the_next_seeds():
    memory, door_key = build_group("env/memory"), build_group("env/door_key")
    assert other_worlds(memory, "ball/left") == ("key/left", "key/right", "ball/right")
    assert len(other_worlds(memory, "seed:3")) == 4
    assert other_worlds(door_key, "seed:7", 2) == ("seed:8", "seed:9")
    assert other_worlds(door_key, f"seed:{2**63 - 1}", 1) == ("seed:0",)
