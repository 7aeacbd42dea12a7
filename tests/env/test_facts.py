"""States of worlds as arrays: minigrid draws from them what was seen, and facts are the world's."""

import numpy as np
import pytest
from minigrid.core.constants import IDX_TO_OBJECT, OBJECT_TO_IDX, STATE_TO_IDX

from dtx.config.compose import build_group
from dtx.env.facts import DOOR, DOOR_STATES, EMPTY, HAND, OBJECTS, StateTable, states_of, views
from dtx.env.roles import agent_cell, cells_of, world_of

TASKS = {
    "memory": ["env=memory"],
    "large memory": ["env=memory", "env.size=9"],
    "door_key": ["env=door_key", "env.size=6"],
    "dynamic_obstacles": ["env=dynamic_obstacles", "env.size=6", "env.random_start=true"],
    "minigrid": ["env=minigrid", "env.id=MiniGrid-MultiRoom-N2-S4-v0"],
}


def walk(name, episodes=12, steps=30):
    """An environment, the states along random episodes, their views, and what the worlds themselves say."""
    task = TASKS[name]
    env = build_group(f"env/{task[0].removeprefix('env=')}", task[1:])
    made, table, rng = env.make(), StateTable(), np.random.default_rng(0)
    columns, seen, asked = [], [], []
    for episode in range(episodes):
        observation, _ = made.reset(seed=episode)
        for _ in range(steps):
            world = world_of(made)
            columns.append(table.read([world]))
            seen.append(observation["image"])
            asked.append(ask(world))
            weights = np.array([1, 1, 3, 2, 0.2, 2, 0.1])[: env.n_actions]
            action = int(rng.choice(env.n_actions, p=weights / weights.sum()))
            observation, _, terminated, truncated, _ = made.step(action)
            if terminated or truncated:
                break
    together = {name: np.concatenate([c[name] for c in columns]) for name in columns[0]}
    return env, states_of(table.grids, together), np.stack(seen), asked


def state(table, world):
    columns = table.read([world])
    return states_of(table.grids, columns)


def ask(world):
    ahead = world.grid.get(*world.front_pos)
    doors = cells_of(world, "door")
    door = world.grid.get(*doors[0]) if doors else None
    return {
        "x": agent_cell(world)[0],
        "y": agent_cell(world)[1],
        "direction": int(world.agent_dir),
        "carrying": "empty" if world.carrying is None else world.carrying.type,
        "ahead": "empty" if ahead is None else ahead.type,
        "door": None if door is None else DOOR_STATES[door.encode()[2]],
        "key": (cells_of(world, "key") or [(-1, -1)])[0],
    }  # fmt: skip


def test_names_are_minigrids():
    assert list(OBJECTS) == [IDX_TO_OBJECT[i] for i in range(len(IDX_TO_OBJECT))]
    assert OBJECT_TO_IDX["empty"] == EMPTY and OBJECT_TO_IDX["door"] == DOOR
    assert [STATE_TO_IDX[state] for state in DOOR_STATES] == [0, 1, 2]


@pytest.mark.parametrize("name", TASKS)
def test_views_drawn_from_states_are_those_that_were_seen(name):
    env, states, seen, _ = walk(name)
    assert len(states) > 30
    assert (views(world_of(env.make()), states) == seen).all()


@pytest.mark.parametrize("name", TASKS)
def test_facts_are_those_of_the_world(name):
    env, states, _, asked = walk(name)
    facts = env.roles.facts(states)
    for fact in ("x", "y", "direction", "carrying", "ahead"):
        assert facts[fact].value.tolist() == [a[fact] for a in asked], fact
    if name == "door_key":
        assert facts["door"].value.tolist() == [a["door"] for a in asked]
        where = np.stack([facts["key_x"].value, facts["key_y"].value], 1)
        assert where.tolist() == [list(a["key"]) for a in asked]
        assert {"key", "empty"} == set(facts["carrying"].value)


@pytest.mark.parametrize("name", TASKS)
def test_cells_that_are_shown_hold_what_the_view_shows(name):
    """And nothing else is shown: as many cells of the view show something as cells of the world are shown."""
    _, states, seen, _ = walk(name)
    shown = states.shown(seen)
    count = np.zeros(len(states), int)
    for i in range(7):
        for j in range(7):
            cell = states.cell(6 - j, i - 3)
            inside = ((cell >= 0) & (cell < states.shape)).all(1)
            there = inside & (seen[:, i, j, 0] != 0) & ((i, j) != (3, 6))
            assert (states.at(cell)[there] == seen[there, i, j]).all()
            assert shown[there, cell[there, 0], cell[there, 1]].all()
            count += there
    assert (shown.sum((1, 2)) == count).all()


def test_the_hand_is_always_shown_and_a_key_in_it_with_it():
    env, states, seen, asked = walk("door_key")
    facts, shown = env.roles.facts(states), states.shown(seen)
    assert facts["carrying"].told(shown).all()
    held = np.array([a["carrying"] == "key" for a in asked])
    assert facts["key_x"].told(shown)[held].all()
    assert (facts["key_x"].cells[held] == HAND).all()
    lying = facts["key_x"].told(shown)[~held]
    assert lying.any() and not lying.all()
    assert not facts["x"].told(shown).any()


def test_memorys_layout_is_told_by_its_facts():
    env = build_group("env/memory")
    table = StateTable()
    for layout, name in enumerate(env.decision.layouts):
        made = env.decision.make(layout)
        made.reset(seed=0)
        facts = env.roles.facts(state(table, world_of(made)))
        instruction, side = name.split("/")
        assert facts["instruction"].value == [instruction]
        assert facts["target_side"].value == [side]
        assert {str(facts[f"{s}_object"].value[0]) for s in ("left", "right")} == {"key", "ball"}


def test_worlds_of_another_size_are_refused():
    table = StateTable()
    for name in ("memory", "large memory"):
        made = build_group("env/memory", TASKS[name][1:]).make()
        made.reset(seed=0)
        if name == "memory":
            table.read([world_of(made)])
        else:
            with pytest.raises(ValueError, match=r"a world is \(9, 9\), others \(7, 7\)"):
                table.read([world_of(made)])
