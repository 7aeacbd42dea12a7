"""Dynamic Obstacles: the same task as by its id, with roles and a decision."""

import numpy as np
import pytest

from dtx.config.compose import build_group
from dtx.env.roles import Unsettled
from dtx.errors import UserError

FORWARD = 2


def world_of(env, seed=0):
    world = env.make().unwrapped
    world.reset(seed=seed)
    return world


def test_it_is_the_task_of_that_id():
    env = build_group("env/dynamic_obstacles", ["env.backend=gymnasium"])
    same = build_group("env/minigrid", ["env.backend=gymnasium", f"env.id={env.id}"])
    assert env.horizon == same.horizon
    ours, other = env.vector(3, 5), same.vector(3, 5)
    assert ours.n_actions == env.n_actions == 3
    assert (ours.reset() == other.reset()).all()
    for action in (0, 1, 0):
        actions = np.full(3, action)
        assert (ours.step(actions).observations == other.step(actions).observations).all()


def test_a_step_forward_at_the_decision_runs_into_a_ball():
    env = build_group("env/dynamic_obstacles")
    met = 0
    for seed in range(40):
        world = world_of(env, seed)
        there = bool(env.roles.predicates()["decision"](world.gen_obs()["image"]))
        _, reward, terminated, _, _ = world.step(FORWARD)
        assert there == (terminated and reward == -1)
        met += there
    assert 0 < met < 40


def test_balls_taken_away_and_added_are_the_ones_that_move():
    env = build_group("env/dynamic_obstacles")
    world = world_of(env)
    first, second = env.roles.where(world)["obstacle"]
    ball = world.grid.get(*second)
    world.grid.set(*first, None)
    env.roles.settle(world)
    assert len(world.obstacles) == 1 and world.obstacles[0] is ball
    for _ in range(5):
        world.step(0)
        assert len(env.roles.where(world)["obstacle"]) == 1
    any_task = build_group("env/minigrid", [f"env.id={env.id}"])
    with pytest.raises(Unsettled, match="keeps obstacles beside its grid"):
        any_task.roles.settle(world)


def test_wrong_settings_are_explained():
    env = build_group("env/dynamic_obstacles")
    common = {"max_steps": None, "backend": env.backend}
    for size, start in ((7, False), (8, True)):
        with pytest.raises(UserError, match=r"env\.size"):
            type(env)(size=size, random_start=start, **common).make()
