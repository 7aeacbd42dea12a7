"""DoorKey: the same task as by its id, with roles and a decision."""

import numpy as np
import pytest

from dtx.config.compose import build_group
from dtx.errors import UserError

LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE = range(6)


def world_of(env, seed=0):
    world = env.make().unwrapped
    world.reset(seed=seed)
    return world


def test_it_is_the_task_of_that_id():
    env = build_group("env/door_key", ["env.backend=gymnasium"])
    same = build_group("env/minigrid", ["env.backend=gymnasium", f"env.id={env.id}"])
    assert (env.horizon, env.n_actions) == (same.horizon, same.n_actions)
    ours, other = env.vector(3, 5), same.vector(3, 5)
    assert (ours.reset() == other.reset()).all()
    for action in (LEFT, FORWARD, PICKUP, TOGGLE):
        actions = np.full(3, action)
        assert (ours.step(actions).observations == other.step(actions).observations).all()


def test_roles_name_what_lies_there():
    env = build_group("env/door_key")
    for seed in range(5):
        world = world_of(env, seed)
        roles = env.roles.where(world)
        assert set(roles) == set(env.roles.names)
        for role in ("key", "door", "goal"):
            (cell,) = roles[role]
            assert world.grid.get(*cell).type == role
        assert roles["agent"] == [tuple(world.agent_pos)]


def test_the_decision_is_before_the_locked_door_with_the_key_in_hand():
    env = build_group("env/door_key")
    world = world_of(env)
    door = world.grid.get(*env.roles.where(world)["door"][0])
    (x, y), key = (
        env.roles.where(world)["door"][0],
        world.grid.get(*env.roles.where(world)["key"][0]),
    )
    world.grid.set(*env.roles.where(world)["key"][0], None)
    world.agent_pos, world.agent_dir = (x - 1, y), 0

    def seen():
        return env.roles.predicates()["decision"](world.gen_obs()["image"])

    assert not seen()
    world.carrying = key
    assert seen()
    assert env.roles.predicates()["door_ahead"](world.gen_obs()["image"])
    world.step(TOGGLE)
    assert door.is_open and not seen()


def test_wrong_settings_are_explained():
    env = build_group("env/door_key")
    for change in ({"size": 7}, {"max_steps": 0}):
        wrong = type(env)(**{"size": 5, "max_steps": None, "backend": env.backend, **change})
        with pytest.raises(UserError, match=f"env.{next(iter(change))}"):
            wrong.make()
