"""Memory: its layouts, its decision square, and both backends against minigrid."""

import gymnasium
import numpy as np
import pytest
from minigrid.core.world_object import Ball, Key

from dtx.env.memory import Memory, register
from dtx.env.memory_layouts import LAYOUTS, LEFT, RIGHT
from dtx.env.roles import Unsettled
from dtx.env.vector import Backend
from dtx.errors import UserError


def memory(backend: Backend = Backend.auto, size: int = 7, max_steps: int = 50) -> Memory:
    return Memory(size=size, max_steps=max_steps, backend=backend)


@pytest.mark.parametrize("size", [7, 9, 11])
@pytest.mark.parametrize("layout", range(4))
def test_the_routine_succeeds_and_its_mirror_image_fails(layout: int, size: int) -> None:
    env = memory(size=size)
    actions = env.decision.routine(layout)
    turns = [turn[0] for turn in env.decision.turns([layout])]
    assert {int(t) for t in turns} == {LEFT, RIGHT}
    for turn, expected in zip(turns, (1 - 0.9 * (size - 1) / 50, 0.0), strict=True):
        task = env.decision.make(layout)
        task.reset(seed=layout)
        for action in [*actions[:-2], turn]:
            assert not task.step(action)[2]
        _, reward, terminated, _, _ = task.step(actions[-1])
        assert terminated
        assert reward == pytest.approx(expected)


@pytest.mark.parametrize("size", [7, 9])
def test_the_decision_is_seen_at_the_junction_facing_along_the_corridor_only(size: int) -> None:
    env = memory(size=size)
    for layout in range(4):
        task = env.decision.make(layout)
        first = task.reset(seed=0)[0]["image"]
        for x in range(1, size - 1):
            rows = range(1, size - 1) if x == size - 2 else [size // 2]
            for y in rows:
                for direction in range(4):
                    task.unwrapped.agent_pos, task.unwrapped.agent_dir = (x, y), direction
                    seen = task.unwrapped.gen_obs()["image"]
                    there = (x, y, direction) == (size - 2, size // 2, 0)
                    assert bool(env.decision.here(seen)) == there, (x, y, direction)
                    if there:
                        assert env.decision.layout_of(first, seen) == layout


def test_layouts_are_played_where_asked_for() -> None:
    env = memory()
    order = [3, 0, 2, 1, 1]
    vector = env.decision.vector(order, seed=0)
    for _ in range(2):  # the second episode has the same layout
        first = vector.reset()
        for action in [2] * env.decision.step:
            step = vector.step(np.full(5, action))
        assert env.decision.here(step.observations).all()
        np.testing.assert_array_equal(env.decision.layout_of(first, step.observations), order)


@pytest.mark.parametrize("backend", [Backend.envpool, Backend.gymnasium])
def test_episodes_start_fixed_and_all_layouts_are_drawn_equally(backend: Backend) -> None:
    env, n = memory(backend), 400
    vector = env.vector(n, seed=3)
    first = vector.reset()
    expected = {env.decision.make(k).reset(seed=0)[0]["image"].tobytes() for k in range(4)}
    assert {o.tobytes() for o in first} == expected
    counts = np.zeros(4)
    for _ in range(2):  # the second time after same-step resets
        for _ in range(env.decision.step):
            step = vector.step(np.full(n, 2))
        assert env.decision.here(step.observations).all()
        layouts = env.decision.layout_of(first, step.observations)
        counts += np.bincount(layouts, minlength=4)
        vector.step(env.decision.turns(layouts)[0])
        step = vector.step(np.full(n, 2))
        assert step.terminated.all()
        np.testing.assert_allclose(step.reward, 0.892, atol=1e-6)
        first = step.observations
    # 800 draws of 4: a share's standard deviation is .015
    np.testing.assert_allclose(counts / counts.sum(), 0.25, atol=0.06)


def test_envpool_does_what_minigrid_does() -> None:
    """Each episode of envpool's is replayed in minigrid: its layout, or one it never got to see."""
    env, n, steps = memory(Backend.envpool, max_steps=23), 24, 250
    rng = np.random.default_rng(1)
    vector = env.vector(n, seed=5)
    observations = vector.reset()
    tasks = [env.decision.make(layout) for layout in range(4)]
    episodes: list[dict[str, list]] = [{"seen": [o], "did": []} for o in observations]
    replayed, ends = 0, {"terminated": 0, "truncated": 0}
    for _ in range(steps):
        actions = rng.choice(7, n, p=[0.1, 0.1, 0.7, 0.025, 0.025, 0.025, 0.025])
        step = vector.step(actions)
        for i in range(n):
            answer = (
                step.final_observations[i],
                step.reward[i],
                step.terminated[i],
                step.truncated[i],
            )
            episodes[i]["did"].append((actions[i], *answer))
            if step.ended[i]:
                assert any(_replays(task, episodes[i]) for task in tasks)
                replayed += len(episodes[i]["did"])
                ends["terminated" if step.terminated[i] else "truncated"] += 1
                episodes[i] = {"seen": [step.observations[i]], "did": []}
            else:
                np.testing.assert_array_equal(step.observations[i], step.final_observations[i])
    assert replayed > 0.8 * n * steps
    assert min(ends.values()) > 30


def _replays(task: gymnasium.Env, episode: dict[str, list]) -> bool:
    first = task.reset(seed=0)[0]["image"]
    if not np.array_equal(first, episode["seen"][0]):
        return False
    for action, seen, reward, terminated, truncated in episode["did"]:
        observation, r, over, late, _ = task.step(action)
        same = np.array_equal(observation["image"], seen) and abs(r - reward) < 1e-6
        # minigrid sets both flags on the last allowed step; ours: what the task decided counts
        if not same or over != terminated or (late and not over) != truncated:
            return False
    return True


@pytest.mark.parametrize("backend", [Backend.envpool, Backend.gymnasium])
def test_ending_on_the_last_allowed_step_is_termination(backend: Backend) -> None:
    env, n = memory(backend, max_steps=6), 32
    vector = env.vector(n, seed=0)
    first = vector.reset()
    for _ in range(env.decision.step):
        step = vector.step(np.full(n, 2))
    layouts = env.decision.layout_of(first, step.observations)
    good = np.arange(n) % 2 == 0
    vector.step(np.where(good, *env.decision.turns(layouts)))
    step = vector.step(np.full(n, 2))
    assert step.terminated.all()
    assert not step.truncated.any()
    np.testing.assert_allclose(step.reward, np.where(good, 0.1, 0), atol=1e-6)


@pytest.mark.parametrize("backend", [Backend.envpool, Backend.gymnasium])
def test_the_same_seed_gives_the_same_episodes_and_another_seed_others(backend: Backend) -> None:
    def play(seed: int) -> tuple[np.ndarray, np.ndarray]:
        vector = memory(backend, max_steps=9).vector(16, seed)
        actions = np.random.default_rng(0).choice([0, 1, 2, 2, 2], (60, 16))
        vector.reset()
        steps = [vector.step(a) for a in actions]
        return np.stack([s.observations for s in steps]), np.stack([s.reward for s in steps])

    once, again, other = play(7), play(7), play(8)
    np.testing.assert_array_equal(once[0], again[0])
    np.testing.assert_array_equal(once[1], again[1])
    assert (once[0] != other[0]).any()


def test_the_gymnasium_id_makes_the_task() -> None:
    register()
    register()
    env = gymnasium.make("dtx/MemoryS7FixedStart-v0")
    env.reset(seed=0)
    assert env.unwrapped.max_steps == 50
    assert tuple(env.unwrapped.agent_pos) == (1, 3)


def test_check_says_what_is_wrong() -> None:
    assert [field for field, _ in memory(size=8, max_steps=3).check()] == ["size", "max_steps"]
    assert not list(memory().check())
    with pytest.raises(UserError, match=r"env\.size: 8 is no size"):
        memory(size=8).vector(1, 0)
    assert memory().decision.layouts == LAYOUTS


def test_an_edited_world_ends_where_its_objects_say():
    """Flipping the instruction, or changing sides, makes the world of another layout, rules included."""
    env = Memory(size=7, max_steps=50, backend=Backend.auto)

    def world_of(layout):
        world = env.decision.make(layout).unwrapped
        world.reset(seed=0)
        return world

    kinds = {"key": Key, "ball": Ball}
    flipped = {0: 3, 1: 2, 2: 1, 3: 0}
    for layout, other in flipped.items():
        world, expected = world_of(layout), world_of(other)
        (cell,) = env.roles.where(world)["instruction"]
        now = world.grid.get(*cell).type
        world.grid.set(*cell, kinds["ball" if now == "key" else "key"]("green"))
        env.roles.settle(world)
        assert world.success_pos == expected.success_pos
        assert world.failure_pos == expected.failure_pos
        assert env.roles.where(world) == env.roles.where(expected)
        assert env.roles.complement(world.gen_obs()["image"]) == now
    world = world_of(0)
    (cell,) = env.roles.where(world)["decoy"]
    world.grid.set(*cell, Key("green"))
    with pytest.raises(Unsettled, match="both objects"):
        env.roles.settle(world)


def test_views_that_are_drawn_once_are_minigrids() -> None:
    """Along random walks, with objects that are moved by hand, as pairs do, and carried."""
    from minigrid.minigrid_env import MiniGridEnv

    generator = np.random.default_rng(0)
    for layout in (*range(4), *range(4)):
        world = memory().decision.make(layout).unwrapped
        observation, _ = world.reset(seed=layout)
        for step in range(40):
            expected = MiniGridEnv.gen_obs(world)
            assert observation.keys() == expected.keys()
            assert (observation["image"] == expected["image"]).all()
            assert observation["direction"] == expected["direction"]
            observation["image"][:] = 0  # a caller's own copy
            if step == 20:
                world.grid.set(2, 2, Ball("red") if layout % 2 else None)
                world.carrying = Key("blue") if layout < 2 else None
            observation, _, terminated, _, _ = world.step(int(generator.integers(3)))
            if terminated:
                observation, _ = world.reset()
